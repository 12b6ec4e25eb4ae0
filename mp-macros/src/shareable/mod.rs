//! `#[derive(Shareable)]`: parse, check, expand, or stand in.

mod field;
mod representation;
mod check;
mod expand;
mod stand_in;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use crate::errors::Errors;

pub(crate) fn shareable(item: TokenStream) -> TokenStream {
    let item: DeriveInput = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::default();
    check::check(&item, &mut errors);
    if errors.is_empty() {
        expand::expand(&item)
    } else {
        stand_in::stand_in(&item, errors)
    }
}
