use mp::Shareable;

#[derive(Shareable)]
enum Message {
    Quit,
    Move { x: u32, y: u32 },
    Write(u8),
}

#[derive(Shareable)]
enum Nothing {}

#[derive(Shareable)]
#[repr(u16)]
enum Wide {
    A,
}

#[derive(Shareable)]
#[repr(C)]
enum Foreign {
    A,
}

#[derive(Shareable)]
#[repr(u8, align(4))]
enum Aligned {
    A,
}

macro_rules! variants {
    ($($variant:ident)*) => {
        #[derive(Shareable)]
        enum Crowd {
            $($variant,)*
        }
    };
}

#[rustfmt::skip]
variants! {

    A0 A1 A2 A3 A4 A5 A6 A7 A8 A9 AA AB AC AD AE AF B0 B1 B2 B3 B4 B5 B6 B7 B8 B9 BA BB BC BD BE BF
    C0 C1 C2 C3 C4 C5 C6 C7 C8 C9 CA CB CC CD CE CF D0 D1 D2 D3 D4 D5 D6 D7 D8 D9 DA DB DC DD DE DF
    E0 E1 E2 E3 E4 E5 E6 E7 E8 E9 EA EB EC ED EE EF F0 F1 F2 F3 F4 F5 F6 F7 F8 F9 FA FB FC FD FE FF
    G0 G1 G2 G3 G4 G5 G6 G7 G8 G9 GA GB GC GD GE GF H0 H1 H2 H3 H4 H5 H6 H7 H8 H9 HA HB HC HD HE HF
    I0 I1 I2 I3 I4 I5 I6 I7 I8 I9 IA IB IC ID IE IF J0 J1 J2 J3 J4 J5 J6 J7 J8 J9 JA JB JC JD JE JF
    K0 K1 K2 K3 K4 K5 K6 K7 K8 K9 KA KB KC KD KE KF L0 L1 L2 L3 L4 L5 L6 L7 L8 L9 LA LB LC LD LE LF
    M0 M1 M2 M3 M4 M5 M6 M7 M8 M9 MA MB MC MD ME MF N0 N1 N2 N3 N4 N5 N6 N7 N8 N9 NA NB NC ND NE NF
    O0 O1 O2 O3 O4 O5 O6 O7 O8 O9 OA OB OC OD OE OF P0 P1 P2 P3 P4 P5 P6 P7 P8 P9 PA PB PC PD PE PF
    TooMany
}

fn share(message: Message) -> Result<mp::Value<Message>, mp::Error> {
    mp::shared!(message)
}

fn main() {
    let _ = share;
}
