mp::shared! {
    static mut MUTABLE: u32 = 0;
    const CONSTANT: u32 = 0;
    let VARIABLE: u32 = 0;
    static ref REFERENCE: u32 = 0;
    static GENERIC<T>: u32 = 0;
    static UNTYPED = 0;
    static UNTYPED_TOO: = 0;
    static EMPTY: u32;
    static EMPTY_TOO: u32 =;
    pub static UNENDED: u32 = 0
    static FINE: u32 = 1;
    fn function() {}
    struct Structure;
    static: u32 = 0;
    static ALSO_FINE: u32 = 1 +;
    static UNENDED_EITHER: u32 = 2
}

mp::shared! { pub CONFUSED: u32 = 0; }

mp::shared! { static NEITHER: u32 }

fn main() {
    let _ = MUTABLE.get();
    let _ = CONSTANT.get();
    let _ = VARIABLE.get();
    let _ = REFERENCE.get();
    let _ = GENERIC.get();
    let _ = UNTYPED.get();
    let _ = UNTYPED_TOO.lock().unwrap().len();
    let _ = mp::locked!(empty = EMPTY, empty_too = EMPTY_TOO => *empty += *empty_too);
    let _ = UNENDED.get();
    let _ = UNENDED_EITHER.get();
    let _ = FINE.get();
    let _ = NEITHER.get();
}
