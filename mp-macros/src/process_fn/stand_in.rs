//! What a function becomes that cannot be a process function.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::ItemFn;

use super::body;
use super::signature::Signature;
use super::structure;
use crate::errors::Errors;

/// Reports the errors, in such a way that no use of the function adds another one.
///
/// The first `compile_error!` stands where the length of an array should, and that array is the
/// type of the arguments, of the result and of the function itself. A type with an error in it is
/// taken for any other type and for one that has every trait, so whatever calls, sends or awaits
/// compiles.
///
/// The user's function stays if it is an ordinary one, so that its own errors show at once, what it
/// alone imports is not called unused, and an editor understands it.
pub(super) fn stand_in(
    function: &ItemFn,
    signature: &Signature<'_>,
    errors: Errors,
) -> TokenStream {
    let body = signature.is_ordinary.then(|| body::body(function));
    let name = structure::name(function);
    let mut compile_errors = errors.into_compile_errors().into_iter();
    let first = compile_errors.next();
    quote_spanned! {Span::mixed_site()=>
        #body

        type __MpUnknown = [(); #first];

        impl ::mp::ProcessFn for #name {
            type Args = __MpUnknown;
            type Output = __MpUnknown;
            const NAME: &'static ::core::primitive::str = "";

            fn __function() -> &'static ::mp::__private::Function {
                ::core::unreachable!()
            }

            fn __encode(
                _: &Self::Args,
                _: &mut ::mp::__private::Encoder,
            ) -> ::core::result::Result<(), ::mp::__private::EncodeError> {
                ::core::unreachable!()
            }

            fn __decode(
                _: &mut ::mp::__private::Decoder<'_>,
            ) -> ::core::result::Result<Self::Output, ::mp::__private::DecodeError> {
                ::core::unreachable!()
            }
        }

        impl ::core::ops::Deref for #name {
            type Target = __MpUnknown;

            fn deref(&self) -> &Self::Target {
                ::core::unreachable!()
            }
        }

        #(#compile_errors)*
    }
}
