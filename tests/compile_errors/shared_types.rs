use std::collections::HashMap;

fn answer() -> u32 {
    42
}

mp::shared! {
    static NAMES: Vec<String> = Vec::new();
    static MAP: (u32, HashMap<u32, u32>) = (0, HashMap::new());
    static ANSWER: u32 = answer();
}

fn main() {
    let _ = NAMES.is_locked();
}
