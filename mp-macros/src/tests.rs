//! The parts that need no compiler. What a user sees is tested in the root, with trybuild.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, ItemFn, Stmt, parse_quote};

use crate::attribute::{self, Concern};
use crate::{entry, spawn};

#[test]
fn an_attribute_belongs_to_the_part_it_is_about() {
    let cases: [(Attribute, Concern); 11] = [
        (parse_quote!(#[cfg(unix)]), Concern::Presence),
        (parse_quote!(#[doc = "text"]), Concern::Docs),
        (parse_quote!(#[deprecated]), Concern::Deprecation),
        (parse_quote!(#[expect(unused)]), Concern::Lint),
        (parse_quote!(#[inline]), Concern::Body),
        (parse_quote!(#[unsafe(no_mangle)]), Concern::Body),
        (parse_quote!(#[tokio::main]), Concern::Body),
        (parse_quote!(#[cfg_attr(unix, doc = "text")]), Concern::Docs),
        (
            parse_quote!(#[cfg_attr(all(), allow(unused), deny(dead_code))]),
            Concern::Lint,
        ),
        (
            parse_quote!(#[cfg_attr(unix, allow(unused), inline)]),
            Concern::Body,
        ),
        (
            parse_quote!(#[cfg_attr(unix, cfg_attr(test, deprecated))]),
            Concern::Deprecation,
        ),
    ];
    for (attribute, concern) in cases {
        assert_eq!(
            Concern::of(&attribute),
            concern,
            "{}",
            attribute.to_token_stream()
        );
    }
}

#[test]
fn an_expectation_becomes_a_permission() {
    let cases: [(Attribute, Attribute); 4] = [
        (
            parse_quote!(#[expect(unused)]),
            parse_quote!(#[allow(unused)]),
        ),
        (parse_quote!(#[deny(unused)]), parse_quote!(#[deny(unused)])),
        (
            parse_quote!(#[cfg_attr(unix, expect(unused, reason = "why"))]),
            parse_quote!(#[cfg_attr(unix, allow(unused, reason = "why"))]),
        ),
        (
            parse_quote!(#[cfg_attr(expect, deny(unused))]),
            parse_quote!(#[cfg_attr(expect, deny(unused))]),
        ),
    ];
    for (attribute, softened) in cases {
        assert_eq!(text(attribute::soften(&attribute)), text(softened));
    }
}

fn text(tokens: impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}

fn has_error(expansion: &TokenStream) -> bool {
    expansion.to_string().contains("compile_error")
}

#[test]
fn main_nests_the_users_main_with_what_may_rewrite_it() {
    let expansion = entry::main(
        quote!(),
        quote! {
            /// Docs.
            #[allow(unused)]
            #[tokio::main(flavor = "current_thread")]
            async fn main() -> Result<(), Error> {
                work().await
            }
        },
    );
    let outer: ItemFn = syn::parse2(expansion).expect("it is a function");
    assert!(outer.sig.asyncness.is_none());
    assert_eq!(outer.attrs.len(), 2);
    let [Stmt::Item(syn::Item::Fn(inner)), init, call] = &outer.block.stmts[..] else {
        panic!("it is a function, `init` and a call");
    };
    assert!(inner.sig.asyncness.is_some());
    assert_eq!(inner.attrs.len(), 1);
    assert_eq!(text(&inner.sig.output), text(&outer.sig.output));
    assert_eq!(text(init), ":: mp :: init () ;");
    assert_eq!(text(call), "main ()");
}

#[test]
fn main_is_async_only_under_the_attribute_of_a_runtime() {
    let under =
        |attribute: TokenStream| entry::main(quote!(), quote!(#attribute async fn main() {}));
    assert!(!has_error(&under(quote!(#[tokio::main]))));
    assert!(!has_error(&under(
        quote!(#[cfg_attr(unix, async_std::main)])
    )));
    assert!(has_error(&under(quote!(#[allow(unused)]))));
    assert!(has_error(&under(quote!(#[inline]))));
    assert!(has_error(&under(quote!())));
}

#[test]
fn a_test_is_entered_under_the_name_the_harness_gives_it() {
    let expanded = |name: &str| {
        let item = syn::parse_str(&format!("fn {name}() {{}}")).expect("it is a function");
        entry::test(quote!(), item).to_string()
    };
    assert!(expanded("squares").contains(r#""squares""#));
    assert!(expanded("r#squares").contains(r#""squares""#));
    assert!(expanded("r#match").contains(r##""r#match""##));
}

#[test]
fn spawn_makes_a_tuple_of_the_arguments() {
    let tuples = [
        (quote!(f()), quote!(::mp::Builder::new().spawn(f, ()))),
        (quote!(f(1)), quote!(::mp::Builder::new().spawn(f, (1,)))),
        (
            quote!(a::f(1, g(2)),),
            quote!(::mp::Builder::new().spawn(a::f, (1, g(2),))),
        ),
    ];
    for (call, expected) in tuples {
        assert_eq!(spawn::spawn(call).to_string(), expected.to_string());
    }
}
