fn main() {
    let total = mp::shared!(0.0).unwrap();
    let _ = mp::locked!();
    let _ = mp::locked!(=> { 1 });
    let _ = mp::locked!(total);
    let _ = mp::locked!(total =>);
    let _ = mp::locked!(total, { *total += 1.0; });
    let _ = mp::locked!(total { *total += 1.0; });
    let _ = mp::locked!(again = total { *again += 1.0; });
    let _ = mp::locked!(total => { *total += 1.0; } { *total });
    let _ = mp::locked!(total => *total += 1.0; *total);
    let _ = mp::locked!(total total => *total);
    let _ = mp::locked!(total = => *total);
    let _ = mp::locked!(, => *total);
}
