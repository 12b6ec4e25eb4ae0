//! The parts that need no compiler. What a user sees is tested in the root, with trybuild.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Expr;
use syn::parse::{ParseStream, Parser};

use super::locked;
use super::section::Section;
use crate::errors::Errors;

fn parse(input: TokenStream) -> (Option<Section>, Vec<String>) {
    let mut errors = Errors::default();
    let parser = |input: ParseStream<'_>| Section::parse(input, &mut errors);
    let section = match parser.parse2(input) {
        Ok(section) => Some(section),
        Err(error) => {
            errors.push(error);
            None
        }
    };
    let compile_errors = errors.into_compile_errors();
    let messages = compile_errors.iter().map(ToString::to_string).collect();
    (section, messages)
}

#[test]
fn a_binding_has_the_name_of_its_variable_or_the_one_it_is_given() {
    let (section, errors) = parse(quote!(total, hits = HITS, t = self.a[0], b = a == b, => ()));
    assert!(errors.is_empty(), "{errors:?}");
    let bindings = section.expect("it is a section").bindings;
    let names: Vec<_> = bindings
        .iter()
        .map(|binding| binding.name.to_string())
        .collect();
    assert_eq!(names, ["total", "hits", "t", "b"]);
    assert!(matches!(bindings[0].operand, Expr::Path(_)));
    assert!(matches!(bindings[2].operand, Expr::Index(_)));
    assert!(matches!(bindings[3].operand, Expr::Binary(_)));
}

#[test]
fn the_body_is_a_block() {
    let bodies = [
        (
            quote!({
                work();
            }),
            quote!({
                work();
            }),
        ),
        (quote!({ half. },), quote!({ half. })),
        (quote!(*a += 1), quote!({ (*a += 1) })),
        (quote!({ *a } + 1,), quote!({ ({ *a } + 1) })),
    ];
    for (body, expected) in bodies {
        let (section, errors) = parse(quote!(a => #body));
        assert!(errors.is_empty(), "{errors:?}");
        let section = section.expect("it is a section");
        assert_eq!(section.body.to_string(), expected.to_string());
    }
}

#[test]
fn an_unnamed_guard_is_told_how_to_be_named() {
    let cases = [
        (quote!(HITS), "`hits = HITS`"),
        (quote!(A = A), "`a = A`"),
        (quote!(self.total), "`total = self.total`"),
        (quote!(a.rows.1), "`rows = a.rows.1`"),
        (quote!(::stats::HITS), "`hits = ::stats::HITS`"),
        (quote!(Stats::<u8>::HITS), "`hits = `"),
        (quote!(&mut stats.rows()[1]), "`rows = `"),
        (quote!(total.clone()), "`total = `"),
        (quote!(first()?), "`first = `"),
        (quote!(self), "`name = `"),
        (quote!(a + b), "`name = `"),
    ];
    for (binding, expected) in cases {
        let (_, errors) = parse(quote!(#binding => ()));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(expected), "{}", errors[0]);
    }
}

#[test]
fn one_error_does_not_hide_another() {
    let (_, errors) = parse(quote!(mut a, a, B, self.c, _ = d => ()));
    assert_eq!(errors.len(), 5, "{errors:?}");
}

#[test]
fn what_is_generated_is_an_expression_that_holds_no_panic() {
    let inputs = [
        quote!(a => ()),
        quote!(a, b => { return *a; }),
        quote!(a, b, c = f(), d => *a),
        quote!(),
        quote!(a, a, HITS => ()),
        quote!(a =>),
    ];
    for input in inputs {
        let expansion = locked(input.clone());
        assert!(!expansion.to_string().contains("unreachable !"));
        syn::parse2::<Expr>(expansion).unwrap_or_else(|error| panic!("{input}: {error}"));
    }
}
