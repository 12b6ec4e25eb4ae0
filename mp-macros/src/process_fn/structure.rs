//! The struct that takes the function's place.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Attribute, ItemFn};

use crate::attribute::{self, Concern};
use crate::place::generated_at;

/// The struct that has the function's name, the constant that is its value, and `items`, which are
/// about them and which nobody can name.
///
/// A unit struct would be struct and constant in one, but clippy takes `square(5);` on a unit
/// struct for a constructor call without effect. Both stand at the user's `fn`, for the lints about
/// them.
pub(super) fn structure(function: &ItemFn, items: &TokenStream) -> TokenStream {
    let visibility = &function.vis;
    let name = name(function);
    let attributes: Vec<_> = function
        .attrs
        .iter()
        .filter(|attribute| Concern::of(attribute) != Concern::Body)
        .map(attribute::soften)
        .collect();
    // In Rust what is deprecated may use itself. Here it is the constant, the body and all else in
    // the anonymous constant that use the struct.
    let deprecation = attributes_of(function, Concern::Deprecation).next();
    let deprecation = deprecation.map(|_| quote!(#[allow(deprecated)]));
    let named = quote_spanned! {generated_at(function.sig.fn_token.span)=>
        #(#attributes)*
        #visibility struct #name {}

        #(#attributes)*
        #deprecation
        #[doc(hidden)]
        #visibility const #name: #name = #name {};
    };

    // The user's types are named within, so what is allowed about them is allowed there.
    let presence = attributes_of(function, Concern::Presence);
    let lints = attributes_of(function, Concern::Lint).map(attribute::soften);
    quote_spanned! {Span::mixed_site()=>
        #named

        #(#presence)*
        #(#lints)*
        #deprecation
        const _: () = {
            // A derive would warn of its own use of a struct that is deprecated.
            #[automatically_derived]
            impl ::core::marker::Copy for #name {}

            #[automatically_derived]
            impl ::core::clone::Clone for #name {
                fn clone(&self) -> Self {
                    *self
                }
            }

            #items
        };
    }
}

/// The function's name for all that is generated. It stands at the user's, but lints about names
/// count it as the macro's and leave it alone.
pub(super) fn name(function: &ItemFn) -> Ident {
    let mut name = function.sig.ident.clone();
    name.set_span(generated_at(name.span()));
    name
}

pub(super) fn attributes_of(
    function: &ItemFn,
    concern: Concern,
) -> impl Iterator<Item = &Attribute> {
    let attributes = function.attrs.iter();
    attributes.filter(move |attribute| Concern::of(attribute) == concern)
}
