//! `#[main]` and `#[test]`: the two places where a program begins.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Attribute, Ident, ItemFn, Signature, parse_quote_spanned};

use crate::attribute::{self, Concern};
use crate::errors::Errors;

pub(crate) fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Some(mut function) = parse_function(&item) else {
        return misplaced(
            item,
            "`#[mp::main]` goes on a function: put it on `fn main`",
        );
    };
    attribute::make_outer(&mut function.attrs);
    let mut errors = Errors::default();
    check_arguments("main", &arguments, &mut errors);

    if function.sig.ident != "main" {
        errors.at(
            &function.sig.ident,
            "`#[mp::main]` runs before the program does: put it on `main`",
        );
        return refused(item, errors);
    }
    check_parameters("main", &function.sig, &mut errors);
    if let Some(asyncness) = &function.sig.asyncness
        && !function.attrs.iter().any(may_be_runtime)
    {
        errors.at(
            asyncness,
            "`main` cannot be `async` by itself: put `#[mp::main]` above the attribute of your \
             runtime, such as `#[tokio::main]`",
        );
    }
    if !errors.is_empty() {
        // A program without a `main` would be one more error, and the user's may not compile as it
        // is.
        return refused(
            quote!(
                fn main() {}
            ),
            errors,
        );
    }
    expand_main(&function)
}

/// The user's `main` is nested whole, with the attributes that may rewrite it: whatever they make
/// of it happens after `init`.
fn expand_main(function: &ItemFn) -> TokenStream {
    let ItemFn {
        attrs, sig, block, ..
    } = function;
    let (inner_attributes, outer_attributes): (Vec<_>, Vec<_>) = attrs
        .iter()
        .partition(|attribute| Concern::of(attribute) == Concern::Body);
    let visibility = &function.vis;
    let name = &sig.ident;
    let output = &sig.output;
    quote_spanned! {Span::mixed_site()=>
        #(#outer_attributes)*
        #visibility fn #name() #output {
            #(#inner_attributes)*
            #sig #block

            ::mp::init();
            #name()
        }
    }
}

/// Whether an attribute below `#[mp::main]` may turn an `async fn` into one that can be called.
fn may_be_runtime(attribute: &Attribute) -> bool {
    const INERT: [&str; 5] = ["inline", "cold", "must_use", "track_caller", "rustfmt"];
    let path = attribute.path();
    Concern::of(attribute) == Concern::Body && !INERT.iter().any(|inert| path.is_ident(inert))
}

pub(crate) fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let Some(mut function) = parse_function(&item) else {
        return misplaced(item, "`#[mp::test]` goes on a function, as `#[test]` does");
    };
    attribute::make_outer(&mut function.attrs);
    let mut errors = Errors::default();
    check_arguments("test", &arguments, &mut errors);
    check_parameters("test", &function.sig, &mut errors);
    for attribute in function.attrs.iter().filter(|attribute| is_test(attribute)) {
        errors.at(attribute, "`#[mp::test]` stands for `#[test]`: remove one");
    }
    if let Some(asyncness) = &function.sig.asyncness {
        errors.at(
            asyncness,
            "a test of processes is not `async`: leave it out and block on the future inside",
        );
    }
    if !errors.is_empty() {
        return refused(TokenStream::new(), errors);
    }
    expand_test(function)
}

fn expand_test(function: ItemFn) -> TokenStream {
    let ItemFn {
        attrs,
        vis,
        sig,
        mut block,
        ..
    } = function;
    let name = harness_name(&sig.ident);
    let enter = parse_quote_spanned! {Span::mixed_site()=>
        ::mp::__private::enter_test(::core::concat!(::core::module_path!(), "::", #name));
    };
    block.stmts.insert(0, enter);
    quote_spanned! {Span::mixed_site()=>
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis #sig #block
    }
}

/// The name under which the harness lists a test: it keeps the `r#` of a keyword, and only of a
/// keyword.
fn harness_name(name: &Ident) -> String {
    let plain = name.unraw().to_string();
    if syn::parse_str::<Ident>(&plain).is_ok() {
        plain
    } else {
        format!("r#{plain}")
    }
}

fn is_test(attribute: &Attribute) -> bool {
    let segments = &attribute.path().segments;
    segments.last().is_some_and(|last| last.ident == "test")
}

fn parse_function(item: &TokenStream) -> Option<ItemFn> {
    syn::parse2(item.clone()).ok()
}

fn check_arguments(name: &str, arguments: &TokenStream, errors: &mut Errors) {
    if !arguments.is_empty() {
        errors.at(
            arguments,
            format_args!("`#[mp::{name}]` takes no arguments: write it without any"),
        );
    }
}

fn check_parameters(name: &str, signature: &Signature, errors: &mut Errors) {
    if !signature.inputs.is_empty() {
        errors.at(
            &signature.inputs,
            format_args!(
                "a function under `#[mp::{name}]` is called without arguments: remove the \
                 parameters"
            ),
        );
    }
}

/// Reports that a macro was put on `item`, which is no function, and leaves the item as it is.
fn misplaced(item: TokenStream, message: &str) -> TokenStream {
    let mut errors = Errors::default();
    errors.push(syn::Error::new(
        attribute::item_keyword(item.clone()),
        message,
    ));
    refused(item, errors)
}

fn refused(stand_in: TokenStream, errors: Errors) -> TokenStream {
    let compile_errors = errors.into_compile_errors();
    quote!(#stand_in #(#compile_errors)*)
}
