//! `shared!(expression)`: one value behind a lock.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::parse::ParseStream;
use syn::{Expr, Token};

use crate::place::generated_across;

pub(super) fn parse(input: ParseStream<'_>) -> syn::Result<Expr> {
    let value = input.parse()?;
    input.parse::<Option<Token![,]>>()?;
    if !input.is_empty() {
        let rest: TokenStream = input.parse()?;
        return Err(syn::Error::new_spanned(
            rest,
            "`shared!` takes one value, such as `shared!(0.0f64)`, or statics, such as `shared! { \
             static HITS: u64 = 0; }`",
        ));
    }
    Ok(value)
}

pub(super) fn expand(value: &Expr) -> TokenStream {
    // The error about what is not `Shareable` stands at the argument of `Shared::new`.
    let (first, last) = generated_across(value);
    let path = quote_spanned!(first=> ::mp::sync::Mutex::new);
    let argument = quote_spanned!(last=> (#value));
    quote_spanned!(Span::mixed_site()=> ::mp::Shared::new(#path #argument))
}
