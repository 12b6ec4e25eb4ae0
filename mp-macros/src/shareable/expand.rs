//! The `impl`s that are derived.
//!
//! They are `unsafe`. The compiler takes that for the macro's, not for the user's, and allows it in
//! a crate that forbids unsafe code. They are sound as each field is `Shareable` itself, which its
//! constant asks for, and as there is nothing to drop.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Expr, Field, Generics, Index, parse_quote_spanned};

use crate::place::generated_at;

pub(super) fn expand(item: &DeriveInput) -> TokenStream {
    let generics = bounded(&item.generics);
    let impls = match &item.data {
        Data::Struct(structure) => struct_impl(item, &generics, structure.fields.iter()),
        _ => enum_impls(item),
    };
    let nothing_to_drop = nothing_to_drop(item, &generics);
    quote_spanned! {Span::mixed_site()=>
        // A deprecated type may be named by what is part of it.
        #[allow(deprecated)]
        const _: () = {
            #impls
            #nothing_to_drop
        };
    }
}

/// What has parameters is shareable when they are.
fn bounded(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        let span = generated_at(parameter.ident.span());
        parameter
            .bounds
            .push(parse_quote_spanned!(span=> ::mp::Shareable));
    }
    generics
}

fn struct_impl<'a>(
    item: &DeriveInput,
    generics: &Generics,
    fields: impl Iterator<Item = &'a Field>,
) -> TokenStream {
    let name = &item.ident;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let (mut mended, mut zeroes) = (Vec::new(), Vec::new());
    for (index, field) in fields.enumerate() {
        let offset = offset(index, field);
        let ty = &field.ty;
        // The compiler's error about the type stands at the type alone.
        let span = Span::mixed_site();
        mended.push(quote_spanned!(span=> (#offset, <#ty as ::mp::Shareable>::__MEND)));
        zeroes.push(quote_spanned!(span=> && <#ty as ::mp::Shareable>::__ZERO_IS_VALID));
    }
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        unsafe impl #parameters ::mp::Shareable for #name #arguments #clause {
            const __MEND: ::mp::__private::Mend = ::mp::__private::Mend::Fields(&[#(#mended),*]);
            const __ZERO_IS_VALID: ::core::primitive::bool = true #(#zeroes)*;
        }
    }
}

fn offset(index: usize, field: &Field) -> TokenStream {
    let span = Span::mixed_site();
    if let Some(name) = &field.ident {
        return quote_spanned!(span=> ::core::mem::offset_of!(Self, #name));
    }
    let index = Index {
        span: generated_at(field.ty.span()),
        ..Index::from(index)
    };
    quote_spanned!(span=> ::core::mem::offset_of!(Self, #index))
}

/// A byte is written whole or not at all, so there is nothing to put right; nor is there in an
/// `Option`, whatever its own tag says.
fn enum_impls(item: &DeriveInput) -> TokenStream {
    let name = &item.ident;
    let has_zero = has_zero(item);
    // Discriminants without a `repr` choose the size.
    let one_byte = quote_spanned! {generated_at(name.span())=>
        ::core::assert!(
            ::core::mem::size_of::<#name>() <= 1,
            "an enum in shared memory is one byte: choose discriminants that fit in a `u8` or an \
             `i8`"
        )
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        unsafe impl ::mp::Shareable for #name {
            const __MEND: ::mp::__private::Mend = ::mp::__private::Mend::Nothing;
            const __ZERO_IS_VALID: ::core::primitive::bool = #has_zero;
        }

        #[automatically_derived]
        unsafe impl ::mp::__private::Optional for #name {
            const __MEND_OPTION: ::mp::__private::Mend = ::mp::__private::Mend::Nothing;
        }

        const _: () = #one_byte;
    }
}

/// Whether a variant is surely zero: the first one, if nothing else is said of it, or one of which
/// that is said.
fn has_zero(item: &DeriveInput) -> bool {
    let Data::Enum(item) = &item.data else {
        return false;
    };
    let mut discriminants = item.variants.iter().map(|variant| &variant.discriminant);
    let is_zero = |value: &Expr| value.to_token_stream().to_string() == "0";
    item.variants
        .first()
        .is_some_and(|first| first.discriminant.is_none())
        || discriminants.any(|value| value.as_ref().is_some_and(|(_, value)| is_zero(value)))
}

/// Two `impl`s that are in conflict if the type implements `Drop`. The compiler's error names the
/// trait, so the trait's name is the message.
fn nothing_to_drop(item: &DeriveInput, generics: &Generics) -> TokenStream {
    let name = &item.ident;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let conflicting = quote_spanned! {generated_at(name.span())=>
        impl #parameters ShareableMustNotImplementDrop for #name #arguments #clause {}
    };
    quote_spanned! {Span::mixed_site()=>
        trait ShareableMustNotImplementDrop {}

        #[allow(drop_bounds)]
        impl<__MpDropped: ?::core::marker::Sized + ::core::ops::Drop> ShareableMustNotImplementDrop
            for __MpDropped
        {
        }

        #conflicting
    }
}
