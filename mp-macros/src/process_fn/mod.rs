//! `#[process_fn]`: parse, check, expand, or stand in.

mod timeout;
mod options;
mod parameter;
mod signature;
mod structure;
mod body;
mod expand;
mod stand_in;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Item, ItemFn};

use crate::attribute;
use crate::errors::Errors;
use options::Options;
use signature::Signature;

pub(crate) fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(mut function) = parse_function(&item) else {
        errors.push(syn::Error::new(
            attribute::item_keyword(item.clone()),
            "`#[mp::process_fn]` goes on a function with a body: put it on a `fn`",
        ));
        return refuse(item, errors);
    };
    attribute::make_outer(&mut function.attrs);

    let options = Options::parse(arguments, &mut errors);
    let mut signature_errors = Errors::default();
    let signature = Signature::check(&function.sig, &mut signature_errors);
    if signature_errors.is_empty() {
        // Without its options a function is still whole: whatever uses it compiles.
        let items = expand::expand(&function, &options, &signature);
        let compile_errors = errors.into_compile_errors();
        return structure::structure(&function, &quote!(#items #(#compile_errors)*));
    }

    errors.append(signature_errors);
    if function.sig.receiver().is_some() {
        // It is in an `impl`, where a struct cannot be. As a method it may well be right.
        return refuse(item, errors);
    }
    structure::structure(
        &function,
        &stand_in::stand_in(&function, &signature, errors),
    )
}

/// Reports the errors and leaves the item as it is.
fn refuse(item: TokenStream, errors: Errors) -> TokenStream {
    let compile_errors = errors.into_compile_errors();
    quote!(#item #(#compile_errors)*)
}

fn parse_function(item: &TokenStream) -> Option<ItemFn> {
    match syn::parse2(item.clone()) {
        Ok(Item::Fn(function)) => Some(function),
        _ => None,
    }
}
