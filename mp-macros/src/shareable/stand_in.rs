//! What is derived for a type that cannot be shared.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::visit::{self, Visit};
use syn::{DeriveInput, Lifetime, PathSegment, TypePtr, TypeTraitObject};

use crate::errors::Errors;

/// Reports the errors, and implements the trait all the same if it can be: then no use of the type
/// adds another error.
pub(super) fn stand_in(item: &DeriveInput, errors: Errors) -> TokenStream {
    let compile_errors = errors.into_compile_errors();
    let implementation = meets_supertraits(item).then(|| implementation(item));
    quote!(#(#compile_errors)* #implementation)
}

fn implementation(item: &DeriveInput) -> TokenStream {
    let name = &item.ident;
    let mut generics = item.generics.clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(::mp::Shareable));
    }
    let (parameters, arguments, clause) = generics.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        unsafe impl #parameters ::mp::Shareable for #name #arguments #clause {
            const __MEND: ::mp::__private::Mend = ::mp::__private::Mend::Nothing;
        }
    }
}

/// Whether it looks as if the type is `Send + 'static`, which the trait demands.
fn meets_supertraits(item: &DeriveInput) -> bool {
    let mut obstacles = Obstacles(0);
    obstacles.visit_derive_input(item);
    obstacles.0 == 0
}

struct Obstacles(usize);

impl Visit<'_> for Obstacles {
    fn visit_lifetime(&mut self, lifetime: &Lifetime) {
        self.0 += usize::from(lifetime.ident != "static");
    }

    fn visit_type_ptr(&mut self, _: &TypePtr) {
        self.0 += 1;
    }

    fn visit_type_trait_object(&mut self, _: &TypeTraitObject) {
        self.0 += 1;
    }

    fn visit_path_segment(&mut self, segment: &PathSegment) {
        self.0 += usize::from(segment.ident == "Rc");
        visit::visit_path_segment(self, segment);
    }
}
