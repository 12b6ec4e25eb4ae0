//! `shared!`: a guarded value, or statics that are guarded values.

mod value;
mod declaration;
mod expand;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{ParseStream, Parser};

use crate::errors::Errors;
use declaration::Declaration;

pub(crate) fn shared(input: TokenStream) -> TokenStream {
    let parsed = |input: ParseStream<'_>| {
        if input.is_empty() || declaration::is_ahead(input) {
            Ok(parse_declarations(input))
        } else {
            value::parse(input).map(|value| value::expand(&value))
        }
    };
    parsed
        .parse2(input)
        .unwrap_or_else(|error| error.to_compile_error())
}

/// Every static that can be made out is expanded, so that what names it compiles.
fn parse_declarations(input: ParseStream<'_>) -> TokenStream {
    let mut errors = Errors::default();
    let mut items = TokenStream::new();
    while !input.is_empty() {
        if let Some(declaration) = Declaration::parse_next(input, &mut errors) {
            items.extend(expand::expand(declaration));
        }
    }
    let compile_errors = errors.into_compile_errors();
    quote!(#items #(#compile_errors)*)
}
