//! The code of a section.
//!
//! ```text
//! {
//!     match (&operands...) {            // what the operands make lives until the end
//!         (operands...) => match taken {
//!             Ok((guards...)) => {
//!                 let mut names = guards...;
//!                 match body {          // in no closure, labelled block or loop
//!                     value => Ok(value),
//!                 }
//!             }
//!             Err(error) => Err(error),
//!         },
//!     }
//! }
//! ```
//!
//! The outermost block and that of the body have the edition of this crate, whatever that of the
//! user's: since 2024 the temporaries of a block's last expression are dropped within it. So those
//! of the body are gone before the guards are, and those of the operands right after.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::binding::Binding;
use super::section::Section;
use crate::place::generated_across;

pub(super) fn expand(section: &Section) -> TokenStream {
    let operands = section.bindings.iter().map(|binding| &binding.operand);
    let places = (0..section.bindings.len()).map(place);
    let locked: Vec<_> = section
        .bindings
        .iter()
        .enumerate()
        .map(|(index, binding)| Locked::new(index, binding))
        .collect();
    let taken = take(&locked);
    let guards = locked.iter().map(|locked| &locked.guard);
    let body = body(section, &locked);
    quote_spanned! {Span::mixed_site()=>
        {
            match (#(&(#operands),)*) {
                (#(#places,)*) => match #taken {
                    ::core::result::Result::Ok((#(#guards,)*)) => #body,
                    ::core::result::Result::Err(__mp_error) => {
                        ::core::result::Result::Err::<_, ::mp::Error>(__mp_error)
                    }
                },
            }
        }
    }
}

/// A binding in the generated code.
struct Locked {
    guard: Ident,
    key: TokenStream,
    /// Takes the lock, or leaves the block `'__mp_taken` with the error.
    lock: TokenStream,
}

impl Locked {
    fn new(index: usize, binding: &Binding) -> Self {
        let span = Span::mixed_site();
        // The errors about what has no lock stand at the operand.
        let (first, last) = generated_across(&binding.operand);
        let mut place = place(index);
        place.set_span(last);
        let reborrow = quote_spanned!(first=> &*);
        let argument = quote_spanned!(last=> (#reborrow #place));
        let key = quote_spanned!(first=> ::mp::__private::Guarded::__key);
        let lock = quote_spanned!(first=> ::mp::__private::Guarded::__lock);
        Self {
            guard: format_ident!("__mp_guard_{index}", span = span),
            key: quote!(#key #argument),
            lock: quote_spanned! {span=>
                match #lock #argument {
                    ::core::result::Result::Ok(__mp_guard) => __mp_guard,
                    ::core::result::Result::Err(__mp_error) => {
                        break '__mp_taken ::core::result::Result::Err(__mp_error)
                    }
                }
            },
        }
    }
}

/// The reference to what an operand is.
fn place(index: usize) -> Ident {
    format_ident!("__mp_{index}", span = Span::mixed_site())
}

/// A `Result` of the guards, taken in the canonical order.
fn take(locked: &[Locked]) -> TokenStream {
    let guards: Vec<_> = locked.iter().map(|locked| &locked.guard).collect();
    let take = match locked {
        [one] => {
            let Locked { guard, lock, .. } = one;
            quote_spanned!(Span::mixed_site()=> let #guard = #lock;)
        }
        [first, second] => take_two(first, second),
        all => take_all(all),
    };
    quote_spanned! {Span::mixed_site()=>
        '__mp_taken: {
            #take
            ::core::result::Result::Ok((#(#guards,)*))
        }
    }
}

/// Two are a comparison, and no more.
fn take_two(first: &Locked, second: &Locked) -> TokenStream {
    let (first_guard, first_key, first_lock) = (&first.guard, &first.key, &first.lock);
    let (second_guard, second_key, second_lock) = (&second.guard, &second.key, &second.lock);
    quote_spanned! {Span::mixed_site()=>
        let (#first_guard, #second_guard);
        match ::mp::__private::lock_order([#first_key, #second_key]) {
            [0, ..] => {
                #first_guard = #first_lock;
                #second_guard = #second_lock;
            }
            _ => {
                #second_guard = #second_lock;
                #first_guard = #first_lock;
            }
        }
    }
}

/// The guards differ in their types, so each has a variable, which is filled when its turn comes.
fn take_all(locked: &[Locked]) -> TokenStream {
    let guards: Vec<_> = locked.iter().map(|locked| &locked.guard).collect();
    let keys = locked.iter().map(|locked| &locked.key);
    let locks: Vec<_> = locked.iter().map(|locked| &locked.lock).collect();
    let indices = (0..locked.len()).map(Literal::usize_unsuffixed);
    quote_spanned! {Span::mixed_site()=>
        #(let mut #guards = ::core::option::Option::None;)*
        for __mp_index in ::mp::__private::lock_order([#(#keys),*]) {
            match __mp_index {
                #(#indices => #guards = ::core::option::Option::Some(#locks),)*
                _ => {}
            }
        }
        // An order has every index. To take what it left out is the shortest code without a panic.
        #(let #guards = match #guards {
            ::core::option::Option::Some(__mp_guard) => __mp_guard,
            ::core::option::Option::None => #locks,
        };)*
    }
}

/// The user's block, in which the names are the guards.
fn body(section: &Section, locked: &[Locked]) -> TokenStream {
    let names = section.bindings.iter().map(|binding| &binding.name);
    let guards = locked.iter().map(|locked| &locked.guard);
    let body = &section.body;
    quote_spanned! {Span::mixed_site()=>
        {
            #(
                // A lock may be all that is wanted.
                #[allow(unused_mut, unused_variables)]
                let mut #names = #guards;
            )*
            // As an arm, what follows a body that never ends in a value can be allowed by itself.
            match #body {
                #[allow(unreachable_code)]
                __mp_value => ::core::result::Result::Ok(__mp_value),
            }
        }
    }
}
