#[mp::process_fn]
fn serve(port: u16) -> ! {
    loop {
        std::thread::park();
        let _ = port;
    }
}

fn main() {
    let _ = mp::spawn!(serve(80));
}
