//! The function that the user wrote, under another name.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::ItemFn;
use syn::ext::IdentExt;

use super::structure;
use crate::attribute::Concern;
use crate::place::generated_at;

pub(super) fn body(function: &ItemFn) -> TokenStream {
    let lints = structure::attributes_of(function, Concern::Lint);
    let attributes = structure::attributes_of(function, Concern::Body);
    let mut signature = function.sig.clone();
    signature.ident = name(function);
    let block = &function.block;
    quote!(#(#lints)* #(#attributes)* #signature #block)
}

/// It shows in backtraces and profiles, so it tells which function it is. The struct keeps the name
/// itself, for the body may hand itself to a pool.
pub(super) fn name(function: &ItemFn) -> Ident {
    let name = function.sig.ident.unraw();
    format_ident!("__mp_body_{name}", span = generated_at(name.span()))
}
