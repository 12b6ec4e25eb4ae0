//! The parts that need no compiler. What a user sees is tested in the root, with trybuild.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{ItemFn, Type, parse_quote};

use super::options::Options;
use super::parameter::{Parameter, Passing};
use super::signature::Signature;
use super::timeout::{Mistake, Timeout};
use super::{body, process_fn};
use crate::errors::Errors;

fn nanoseconds(text: &str) -> Result<u64, Mistake> {
    Timeout::parse(text).map(|timeout| timeout.nanoseconds)
}

#[test]
fn a_timeout_is_a_number_and_a_unit() {
    let cases = [
        ("1ns", 1),
        ("20us", 20_000),
        ("250ms", 250_000_000),
        ("2s", 2_000_000_000),
        ("3m", 180_000_000_000),
        ("1h", 3_600_000_000_000),
        ("007s", 7_000_000_000),
    ];
    for (text, expected) in cases {
        assert_eq!(nanoseconds(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_timeout_has_an_exact_decimal_part() {
    let cases = [
        ("1.5s", 1_500_000_000),
        ("0.25m", 15_000_000_000),
        ("0.1s", 100_000_000),
        ("0.000000001s", 1),
        ("1.9999999999s", 1_999_999_999),
        ("1.5ns", 1),
        ("9007199.254740993s", 9_007_199_254_740_993),
        (
            "0.3333333333333333333333333333333333333333h",
            1_199_999_999_999,
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(nanoseconds(text), Ok(expected), "{text}");
    }
}

#[test]
fn a_timeout_that_is_anything_else_is_malformed() {
    let cases = [
        "", "2", "s", "soon", "2 s", " 2s", "2s ", "2S", "2sec", "2d", "-2s", "+2s", "1e3s",
        "1_000ms", ".5s", "2.s", "1.2.3s", ".s", "2s3ms", "٣s", "2µs",
    ];
    for text in cases {
        assert_eq!(nanoseconds(text), Err(Mistake::Malformed), "{text}");
    }
}

#[test]
fn a_timeout_of_less_than_a_nanosecond_is_zero() {
    for text in ["0s", "0.0h", "0.9ns", "0.0000000009s"] {
        assert_eq!(nanoseconds(text), Err(Mistake::Zero), "{text}");
    }
}

#[test]
fn a_timeout_fits_64_bits() {
    assert_eq!(nanoseconds("18446744073709551615ns"), Ok(u64::MAX));
    assert_eq!(nanoseconds("18446744073.709551615s"), Ok(u64::MAX));
    for text in [
        "18446744073709551616ns",
        "18446744073.709551616s",
        "6000000h",
        "99999999999999999999999999999999h",
    ] {
        assert_eq!(nanoseconds(text), Err(Mistake::TooLong), "{text}");
    }
}

#[test]
fn every_mistake_lists_the_units() {
    for mistake in [Mistake::Malformed, Mistake::Zero, Mistake::TooLong] {
        let message = mistake.to_string();
        assert!(
            message.ends_with("the units are ns, us, ms, s, m and h"),
            "{message}"
        );
    }
}

fn options(arguments: TokenStream) -> (Options, Vec<String>) {
    let mut errors = Errors::default();
    let options = Options::parse(arguments, &mut errors);
    (options, messages(errors))
}

fn messages(errors: Errors) -> Vec<String> {
    let compile_errors = errors.into_compile_errors();
    compile_errors.iter().map(ToString::to_string).collect()
}

#[test]
fn options_are_all_optional() {
    let (none, errors) = options(quote!());
    assert!(none.timeout.is_none() && none.retries.is_none() && none.name.is_none());
    assert!(errors.is_empty());

    let (all, errors) = options(quote!(name = "a.b", retries = 0x10, timeout = "2s",));
    assert_eq!(
        all.timeout.map(|timeout| timeout.nanoseconds),
        Some(2_000_000_000)
    );
    assert_eq!(all.retries, Some(16));
    assert_eq!(all.name.map(|name| name.value()), Some("a.b".to_owned()));
    assert!(errors.is_empty());
}

#[test]
fn one_ill_formed_option_does_not_hide_another() {
    let (options, errors) = options(quote!(
        timeout = 2,
        size("3"),
        name = "",
        retries = 4,
        retries
    ));
    assert_eq!(options.retries, Some(4));
    assert_eq!(errors.len(), 4, "{errors:?}");
}

fn classify(written: Type) -> (Passing, String, Option<String>) {
    let parameter = Parameter::classify(&written);
    let carried = parameter.carried().map(text);
    (parameter.passing, text(&parameter.owned), carried)
}

fn text(ty: &Type) -> String {
    ty.to_token_stream().to_string().replace(' ', "")
}

#[test]
fn a_parameter_by_value_is_sent_as_it_is() {
    for written in [
        "u32",
        "String",
        "Vec<f64>",
        "(u8,String)",
        "[u8;4]",
        "Box<dynJob>",
    ] {
        let ty = syn::parse_str(&written.replace("dyn", "dyn ")).expect("it is a type");
        let expected = (Passing::Owned, written.to_owned(), Some(written.to_owned()));
        assert_eq!(classify(ty), expected);
    }
}

#[test]
fn text_and_bytes_are_borrowed_from_the_message() {
    let text = (Passing::Text, "::std::string::String".to_owned(), None);
    assert_eq!(classify(parse_quote!(&str)), text);
    assert_eq!(classify(parse_quote!(&'_ (str))), text);

    let bytes = (Passing::Bytes, "::std::vec::Vec<u8>".to_owned(), None);
    assert_eq!(classify(parse_quote!(&[u8])), bytes);
    assert_eq!(
        classify(parse_quote!((&[(u8)]))),
        (bytes.0, "::std::vec::Vec<(u8)>".to_owned(), None)
    );
}

#[test]
fn other_references_are_lent() {
    let cases: [(Type, &str, &str); 6] = [
        (parse_quote!(&[f64]), "::std::vec::Vec<f64>", "f64"),
        (
            parse_quote!(&[[u8; 2]]),
            "::std::vec::Vec<[u8;2]>",
            "[u8;2]",
        ),
        (parse_quote!(&Config), "Config", "Config"),
        (parse_quote!(&String), "String", "String"),
        (parse_quote!(&Vec<u8>), "Vec<u8>", "Vec<u8>"),
        (parse_quote!(&[u8; 4]), "[u8;4]", "[u8;4]"),
    ];
    for (written, owned, carried) in cases {
        let expected = (Passing::Lent, owned.to_owned(), Some(carried.to_owned()));
        assert_eq!(classify(written), expected);
    }
}

fn check(function: &ItemFn) -> (usize, bool) {
    let mut errors = Errors::default();
    let signature = Signature::check(&function.sig, &mut errors);
    let is_ordinary = signature.is_ordinary;
    (messages(errors).len(), is_ordinary)
}

#[test]
fn references_that_are_no_part_of_a_value_are_allowed() {
    let functions: [ItemFn; 5] = [
        parse_quote!(
            fn f(kind: PhantomData<fn(&str) -> &str>) {}
        ),
        parse_quote!(
            fn f(kind: PhantomData<Box<dyn Fn(&str) -> &str>>) {}
        ),
        parse_quote!(
            fn f(text: Cow<'static, str>) -> Cow<'static, str> {
                text
            }
        ),
        parse_quote!(
            fn f(table: [u8; size_of::<&str>()]) {}
        ),
        parse_quote!(
            const fn f(a: &'_ str, (b, c): (u8, u8)) -> [u8; 2] {
                [b, c]
            }
        ),
    ];
    for function in functions {
        assert_eq!(
            check(&function),
            (0, true),
            "{}",
            function.to_token_stream()
        );
    }
}

#[test]
fn every_violation_is_counted_once() {
    let function = parse_quote! {
        async unsafe extern "C" fn f<'a, T>(a: &'a mut T, b: Option<&str>, c: impl Copy) -> &'a str
        where
            T: Copy,
        {
        }
    };
    assert_eq!(check(&function), (10, false));
}

#[test]
fn a_function_whose_lifetimes_are_unknown_is_not_ordinary() {
    let functions: [ItemFn; 4] = [
        parse_quote!(
            fn f(text: &'a str) {}
        ),
        parse_quote!(
            fn f(text: Cow<'a, str>) {}
        ),
        parse_quote!(
            fn f(any: _) {}
        ),
        parse_quote!(
            fn f() -> &str {}
        ),
    ];
    for function in functions {
        assert_eq!(
            check(&function),
            (1, false),
            "{}",
            function.to_token_stream()
        );
    }
    assert_eq!(
        check(&parse_quote!(
            fn f(text: &'static str) {}
        )),
        (1, true)
    );
    assert_eq!(
        check(&parse_quote!(
            fn f(text: Cow<'_, str>) {}
        )),
        (1, true)
    );
}

#[test]
fn the_name_of_the_body_is_never_one_of_the_macro() {
    for name in ["run", "r#match", "Resize"] {
        let function: ItemFn =
            syn::parse_str(&format!("fn {name}() {{}}")).expect("it is a function");
        let expected = format!("__mp_body_{}", name.trim_start_matches("r#"));
        assert_eq!(body::name(&function).to_string(), expected);
    }
}

#[test]
fn what_is_generated_is_rust() {
    let items = [
        quote!(
            fn f() {}
        ),
        quote!(
            pub(crate) const fn f(mut a: &str, b: &[u8], (c, d): (u8, f64)) -> Option<String> {
                None
            }
        ),
        quote!(
            async fn f<T>(a: &mut T) -> &str {
                a
            }
        ),
        quote!(
            fn f(self) {}
        ),
        quote!(
            struct F;
        ),
    ];
    for item in items {
        let expansion = process_fn(quote!(retries = 1), item.clone());
        syn::parse2::<syn::File>(expansion).unwrap_or_else(|error| panic!("{item}: {error}"));
    }
}
