//! `locked!(a, b = expression => body)`: the body runs while the locks are held.

mod binding;
mod section;
mod expand;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{ParseStream, Parser};

use crate::errors::Errors;
use section::Section;

pub(crate) fn locked(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let parser = |input: ParseStream<'_>| Section::parse(input, &mut errors);
    match parser.parse2(input) {
        Ok(section) if errors.is_empty() => return expand::expand(&section),
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    let compile_errors = errors.into_compile_errors();
    // Each can stand in a block, and the last one is its value, of whichever type is asked for.
    quote!({ #(#compile_errors)* })
}
