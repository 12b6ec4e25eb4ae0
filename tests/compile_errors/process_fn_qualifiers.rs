#[mp::process_fn]
async fn fetch(url: String) -> String {
    get(url).await
}

async fn get(url: String) -> String {
    url
}

#[mp::process_fn]
unsafe fn read(address: usize) -> u8 {
    unsafe { *(address as *const u8) }
}

#[mp::process_fn]
extern "C" fn absolute(x: i32) -> i32 {
    x.abs()
}

#[mp::process_fn]
unsafe extern "C" fn print(format: String, arguments: ...) {
    let _ = (format, arguments);
}

fn main() {
    let _ = get(fetch("mp".to_owned()));
    let _ = mp::spawn!(absolute(read(0) as i32));
}
