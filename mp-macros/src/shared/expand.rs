//! The static a declaration becomes, and its registration.
//!
//! An error in the place of a type or of a value is taken for any other, so that what names the
//! static compiles.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{Expr, Type};

use super::declaration::Declaration;
use crate::attribute::Concern;
use crate::place::generated_across;

pub(super) fn expand(declaration: Declaration) -> TokenStream {
    let registration = registration(&declaration);
    let Declaration {
        attributes,
        visibility,
        keyword,
        name,
        ty,
        value,
    } = declaration;
    let ty = type_or_error(ty);
    let value = value_or_error(value);
    let text = name.unraw().to_string();
    // These three expand to the place of the tokens they are written at.
    let place = quote_spanned! {name.span()=>
        ::core::file!(), ::core::line!(), ::core::column!()
    };
    quote_spanned! {Span::mixed_site()=>
        #(#attributes)*
        #visibility #keyword #name: ::mp::SharedStatic<#ty> = ::mp::SharedStatic::__new(
            ::core::concat!(::core::module_path!(), "::", #text),
            #place,
            #value,
        );

        #registration
    }
}

fn registration(declaration: &Declaration) -> Option<TokenStream> {
    let name = &declaration.name;
    // The error about what is not `Shareable` stands at the argument.
    let (first, last) = generated_across(declaration.ty.as_ref().ok()?);
    let reference = quote_spanned!(first=> &);
    let registered = quote_spanned!(last=> (#name));
    let presence = declaration
        .attributes
        .iter()
        .filter(|attribute| Concern::of(attribute) == Concern::Presence);
    Some(quote_spanned! {Span::mixed_site()=>
        #(#presence)*
        // In Rust what is deprecated may use itself. Here it is the registration that uses it.
        #[allow(deprecated)]
        const _: () = {
            ::mp::__private::inventory::submit! {
                ::mp::__private::RegisteredStatic::new(#reference #registered)
            }
        };
    })
}

fn type_or_error(ty: syn::Result<Type>) -> TokenStream {
    match ty {
        Ok(ty) => ty.into_token_stream(),
        // In the place of a type itself it would be taken for `()`.
        Err(error) => {
            let error = error.to_compile_error();
            quote!([(); #error])
        }
    }
}

fn value_or_error(value: syn::Result<Expr>) -> TokenStream {
    match value {
        Ok(value) => value.into_token_stream(),
        Err(error) => error.to_compile_error(),
    }
}
