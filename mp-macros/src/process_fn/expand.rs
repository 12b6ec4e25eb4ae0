//! The code a process function becomes.
//!
//! Every name this introduces begins with `__mp`, that of a local variable too: an item is visible
//! in the user's body, and a pattern such as `call` would match the constant that a process
//! function `call` is.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::{ItemFn, Type};

use super::body;
use super::options::Options;
use super::parameter::{Parameter, Passing};
use super::signature::Signature;
use super::structure;
use crate::place::generated_at;

pub(super) fn expand(
    function: &ItemFn,
    options: &Options,
    signature: &Signature<'_>,
) -> TokenStream {
    let expansion = Expansion {
        function,
        options,
        signature,
        name: structure::name(function),
        body_name: body::name(function),
    };
    expansion.expand()
}

struct Expansion<'a> {
    function: &'a ItemFn,
    options: &'a Options,
    signature: &'a Signature<'a>,
    name: Ident,
    body_name: Ident,
}

impl Expansion<'_> {
    fn expand(&self) -> TokenStream {
        let body = body::body(self.function);
        let registration = self.registration();
        let process_fn = self.process_fn_impl();
        let run = self.run();
        let deref = self.deref_impl();
        let assertions = self.assertions();
        quote!(#body #registration #process_fn #run #deref #assertions)
    }

    fn registration(&self) -> TokenStream {
        let name = &self.name;
        let output = &self.signature.output;
        let written = self.written_types();
        let timeout = option(self.options.timeout.map(|timeout| {
            let nanoseconds = timeout.nanoseconds;
            quote_spanned!(Span::mixed_site()=> ::core::time::Duration::from_nanos(#nanoseconds))
        }));
        let retries = option(self.options.retries.map(|retries| quote!(#retries)));

        // These three expand to the place of the tokens they are written at.
        let place = quote_spanned! {self.function.sig.ident.span()=>
            file: ::core::file!(), line: ::core::line!(), column: ::core::column!()
        };
        quote_spanned! {Span::mixed_site()=>
            static __MP_FUNCTION: ::mp::__private::Function = ::mp::__private::Function {
                name: <#name as ::mp::ProcessFn>::NAME,
                signature: ::core::stringify!((#(#written),*) -> #output),
                #place,
                timeout: #timeout,
                retries: #retries,
                run: __mp_run,
            };

            ::mp::__private::inventory::submit! {
                ::mp::__private::Registered(&__MP_FUNCTION)
            }
        }
    }

    fn process_fn_impl(&self) -> TokenStream {
        let name = &self.name;
        let output = &self.signature.output;
        let owned = self.owned_types();
        let associated = quote_spanned! {self.parentheses()=>
            type Args = (#(#owned,)*);
            type Output = #output;
        };
        let path = self.path();
        let encode = self.owned_types().enumerate().map(|(index, owned)| {
            let lane = lane(owned);
            let index = Literal::usize_unsuffixed(index);
            quote_spanned!(Span::mixed_site()=> #lane.encode(&__mp_arguments.#index, __mp_to)?;)
        });
        let decode = lane(output);
        let lanes = lanes();
        quote_spanned! {Span::mixed_site()=>
            impl ::mp::ProcessFn for #name {
                #associated
                const NAME: &'static ::core::primitive::str = #path;

                fn __function() -> &'static ::mp::__private::Function {
                    &__MP_FUNCTION
                }

                fn __encode(
                    __mp_arguments: &Self::Args,
                    __mp_to: &mut ::mp::__private::Encoder,
                ) -> ::core::result::Result<(), ::mp::__private::EncodeError> {
                    #lanes
                    #(#encode)*
                    ::core::result::Result::Ok(())
                }

                fn __decode(
                    __mp_from: &mut ::mp::__private::Decoder<'_>,
                ) -> ::core::result::Result<Self::Output, ::mp::__private::DecodeError> {
                    #lanes
                    #decode.decode(__mp_from)
                }
            }
        }
    }

    /// The function's name in the whole program: the option, or the path.
    fn path(&self) -> TokenStream {
        if let Some(name) = &self.options.name {
            return quote!(#name);
        }
        let name = self.name.unraw().to_string();
        quote_spanned! {Span::mixed_site()=>
            ::core::concat!(::core::module_path!(), "::", #name)
        }
    }

    /// What a worker runs: decode, call, encode.
    fn run(&self) -> TokenStream {
        let parameters = &self.signature.parameters;
        let names: Vec<_> = (0..parameters.len())
            .map(|index| format_ident!("__mp_{index}", span = Span::mixed_site()))
            .collect();
        let decode = parameters.iter().map(decode);
        let pass = parameters.iter().zip(&names).map(|(parameter, name)| {
            let lend = (parameter.passing == Passing::Lent).then(|| quote!(&));
            quote!(#lend #name)
        });
        let body_name = &self.body_name;
        let output = lane(&self.signature.output);
        let lanes = lanes();
        quote_spanned! {Span::mixed_site()=>
            fn __mp_run(__mp_items: &mut ::mp::__private::Items<'_, '_>) {
                #lanes
                __mp_items.each(|__mp_call| {
                    let (#(#names,)*) = __mp_call.decode(|__mp_from| {
                        ::core::result::Result::Ok((#(#decode,)*))
                    })?;
                    let __mp_output = __mp_call.invoke(move || #body_name(#(#pass),*))?;
                    __mp_call.check(|| {
                        use ::mp::__private::{Debugs as _, Displays as _, Fails as _, Succeeds as _};
                        (&&&::mp::__private::Returned(&__mp_output)).failure()
                    })?;
                    __mp_call.finish(|__mp_to| #output.encode(&__mp_output, __mp_to))
                });
            }
        }
    }

    /// What makes an ordinary call of it an ordinary call.
    fn deref_impl(&self) -> TokenStream {
        let name = &self.name;
        let body_name = &self.body_name;
        let written = self.written_types();
        let output = &self.signature.output;
        let target = quote_spanned! {self.parentheses()=>
            type Target = fn(#(#written),*) -> #output;
        };
        quote_spanned! {Span::mixed_site()=>
            impl ::core::ops::Deref for #name {
                #target

                fn deref(&self) -> &Self::Target {
                    &(#body_name as Self::Target)
                }
            }
        }
    }

    /// One error for each type that cannot travel, at that type.
    fn assertions(&self) -> TokenStream {
        let parameters = self.signature.parameters.iter();
        let types = parameters
            .filter_map(Parameter::carried)
            .chain([&self.signature.output]);
        quote_spanned! {Span::mixed_site()=>
            #(const _: () = ::mp::__private::can_travel::<#types>();)*
        }
    }

    /// The place of the user's parameters, for errors about what the traits demand of their types.
    fn parentheses(&self) -> Span {
        generated_at(self.function.sig.paren_token.span.join())
    }

    fn written_types(&self) -> impl Iterator<Item = &Type> {
        self.signature
            .parameters
            .iter()
            .map(|parameter| parameter.written)
    }

    fn owned_types(&self) -> impl Iterator<Item = &Type> {
        self.signature
            .parameters
            .iter()
            .map(|parameter| &parameter.owned)
    }
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote_spanned!(Span::mixed_site()=> ::core::option::Option::Some(#value)),
        None => quote_spanned!(Span::mixed_site()=> ::core::option::Option::None),
    }
}

fn decode(parameter: &Parameter<'_>) -> TokenStream {
    match parameter.passing {
        Passing::Text => quote_spanned!(Span::mixed_site()=> __mp_from.str()?),
        Passing::Bytes => quote_spanned!(Span::mixed_site()=> __mp_from.bytes()?),
        Passing::Owned | Passing::Lent => {
            let lane = lane(&parameter.owned);
            quote_spanned!(Span::mixed_site()=> #lane.decode(__mp_from)?)
        }
    }
}

/// How a type is sent, chosen by the compiler, which knows what an alias stands for: it looks for a
/// method of the reference to a reference before one of the lane itself.
fn lane(ty: &Type) -> TokenStream {
    quote_spanned!(Span::mixed_site()=> (&&&::mp::__private::Lane::<#ty>::NEW))
}

fn lanes() -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        use ::mp::__private::{BulkLane as _, RefusedLane as _, SerdeLane as _};
    }
}
