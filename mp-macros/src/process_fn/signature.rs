//! Which functions can be process functions: every rule is checked here, and every violation
//! reported.

use proc_macro2::Ident;
use quote::quote;
use syn::visit::Visit;
use syn::{
    Expr, FnArg, GenericParam, Generics, Lifetime, ParenthesizedGenericArguments, PatType,
    ReturnType, Safety, Type, TypeFnPtr, TypeImplTrait, TypeInfer, TypePtr, TypeReference,
    TypeTraitObject, parse_quote,
};

use super::parameter::{Parameter, without_group};
use crate::attribute;
use crate::errors::Errors;

/// The largest tuple that the standard library has its traits for.
const MAX_PARAMETERS: usize = 12;

/// What travels in a call: the parameters in their order, and the result.
pub(super) struct Signature<'a> {
    pub(super) parameters: Vec<Parameter<'a>>,
    pub(super) output: Type,
    /// Whether the compiler takes it for an ordinary function, whatever keeps it from being a
    /// process function.
    pub(super) is_ordinary: bool,
}

impl<'a> Signature<'a> {
    /// Adds an error for every rule that `signature` breaks. It can be expanded only if there was
    /// none.
    pub(super) fn check(signature: &'a syn::Signature, errors: &mut Errors) -> Self {
        check_qualifiers(signature, errors);
        check_generics(&signature.generics, errors);
        let mut types = TypeCheck {
            place: Place::Parameter,
            generics: &signature.generics,
            errors,
            is_ordinary: signature.variadic.is_none(),
        };
        let parameters = types.check_inputs(signature);
        let output = types.check_output(signature);
        Self {
            parameters,
            output,
            is_ordinary: types.is_ordinary,
        }
    }
}

fn check_qualifiers(signature: &syn::Signature, errors: &mut Errors) {
    if let Some(asyncness) = &signature.asyncness {
        errors.at(
            asyncness,
            "a process function runs without an async runtime: leave `async` out, and block on the \
             future in the body",
        );
    }
    if let Safety::Unsafe(unsafety) = &signature.safety {
        errors.at(
            unsafety,
            "a worker cannot uphold the contract of an `unsafe fn`: leave `unsafe` out, and write \
             an `unsafe` block in the body",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.at(
            abi,
            "a process function is called by Rust alone: leave `extern` out, and call the foreign \
             function in the body",
        );
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(
            variadic,
            "a process function has a fixed number of parameters: take a `Vec` instead of `...`",
        );
    }
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    for parameter in &generics.params {
        match parameter {
            GenericParam::Lifetime(parameter) => errors.at(&parameter.lifetime, LIFETIME),
            GenericParam::Type(parameter) => refuse_generic(&parameter.ident, errors),
            GenericParam::Const(parameter) => refuse_generic(&parameter.ident, errors),
        }
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(
            clause,
            "a process function is not generic: write the concrete types and leave the `where` \
             clause out",
        );
    }
}

fn refuse_generic(name: &Ident, errors: &mut Errors) {
    errors.at(
        name,
        format_args!(
            "a process function is one function, which workers find by its name: write the \
             concrete type instead of the generic parameter `{name}`"
        ),
    );
}

const LIFETIME: &str = "leave the lifetime out: an argument lives as long as the call";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Parameter,
    Output,
}

/// Walks through the types that are to be sent, and reports what in them is borrowed, hidden or
/// left open.
struct TypeCheck<'a> {
    place: Place,
    generics: &'a Generics,
    errors: &'a mut Errors,
    is_ordinary: bool,
}

impl TypeCheck<'_> {
    fn check_inputs<'a>(&mut self, signature: &'a syn::Signature) -> Vec<Parameter<'a>> {
        let mut parameters = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(receiver) => self.errors.at(
                    receiver,
                    "a process function stands by itself, not in an `impl`: take the value as a \
                     parameter with a name, such as `job: &Job`",
                ),
                FnArg::Typed(parameter) => {
                    self.check_parameter(parameter);
                    parameters.push(Parameter::classify(&parameter.ty));
                }
            }
        }
        if parameters.len() > MAX_PARAMETERS {
            let surplus = signature.inputs.iter().skip(MAX_PARAMETERS);
            self.errors.at(
                quote!(#(#surplus),*),
                format_args!(
                    "a process function has at most {MAX_PARAMETERS} parameters: group them in a \
                     struct or a tuple"
                ),
            );
        }
        parameters
    }

    fn check_parameter(&mut self, parameter: &PatType) {
        if let Some(cfg) = attribute::find_cfg(&parameter.attrs) {
            self.errors.at(
                cfg,
                "both ends of a call must agree on its parameters: put the `cfg` on the whole \
                 function",
            );
        }
        match without_group(&parameter.ty) {
            Type::Reference(reference) => self.check_lent(reference),
            ty => self.visit_type(ty),
        }
    }

    /// The reference itself is made in the worker; what it refers to is sent.
    fn check_lent(&mut self, reference: &TypeReference) {
        if reference.mutability.is_some() {
            return self.refuse_mutable(reference);
        }
        if let Some(lifetime) = &reference.lifetime
            && lifetime.ident != "_"
            && !self.is_declared(lifetime)
        {
            self.is_ordinary &= lifetime.ident == "static";
            self.errors.at(lifetime, LIFETIME);
        }
        match without_group(&reference.elem) {
            Type::TraitObject(object) => self.errors.at(
                object,
                "a trait object cannot travel to another process: write the concrete type",
            ),
            referent => self.visit_type(referent),
        }
    }

    fn check_output(&mut self, signature: &syn::Signature) -> Type {
        let ReturnType::Type(_, output) = &signature.output else {
            return parse_quote!(());
        };
        if let Type::Never(never) = without_group(output) {
            self.errors.at(
                never,
                "a process function returns to its caller: leave `-> !` out",
            );
        }
        self.place = Place::Output;
        self.visit_type(output);
        Type::clone(output)
    }

    fn refuse_mutable(&mut self, reference: &TypeReference) {
        let TypeReference {
            and_token,
            mutability,
            ..
        } = reference;
        self.errors.at(
            quote!(#and_token #mutability),
            "a worker cannot change what belongs to its caller: take the value and return the new \
             one, or share it as an `mp::Shared`",
        );
    }

    /// Whether the function declares this lifetime, which is an error already.
    fn is_declared(&self, lifetime: &Lifetime) -> bool {
        let mut declared = self.generics.lifetimes();
        declared.any(|declared| declared.lifetime.ident == lifetime.ident)
    }
}

impl<'ast> Visit<'ast> for TypeCheck<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        match self.place {
            Place::Parameter if reference.mutability.is_some() => self.refuse_mutable(reference),
            Place::Parameter => self.errors.at(
                reference,
                "a reference inside another type cannot be sent: take the owned type, such as \
                 `Option<String>` for `Option<&str>`",
            ),
            Place::Output => {
                // It may lack a lifetime, about which the compiler would give another advice.
                self.is_ordinary = false;
                self.errors.at(
                    reference,
                    "what a process function returns goes to another process and cannot be \
                     borrowed: return an owned value, such as `String` for `&str`",
                );
            }
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident == "static" || self.is_declared(lifetime) {
            return;
        }
        let message = match self.place {
            Place::Parameter => "a type that borrows cannot be sent: take an owned type instead",
            Place::Output => {
                "what a process function returns goes to another process and cannot be borrowed: \
                 return an owned type"
            }
        };
        self.is_ordinary &= lifetime.ident == "_" && self.place == Place::Parameter;
        self.errors.at(lifetime, message);
    }

    fn visit_type_impl_trait(&mut self, hidden: &'ast TypeImplTrait) {
        let message = match self.place {
            Place::Parameter => {
                "the caller must know what to send: write the concrete type instead of `impl`"
            }
            Place::Output => {
                "the caller must know what it receives: write the concrete type instead of `impl`"
            }
        };
        self.errors.at(hidden, message);
    }

    fn visit_type_infer(&mut self, open: &'ast TypeInfer) {
        self.is_ordinary = false;
        self.errors.at(
            open,
            "both ends of a call must know its types: write the concrete type",
        );
    }

    fn visit_type_ptr(&mut self, pointer: &'ast TypePtr) {
        self.errors.at(
            pointer,
            "an address means nothing in another process: send the value it points to",
        );
    }

    // A reference in the signature of a function is bound there; it is no part of the value.
    fn visit_type_fn_ptr(&mut self, _: &'ast TypeFnPtr) {}

    fn visit_parenthesized_generic_arguments(&mut self, _: &'ast ParenthesizedGenericArguments) {}

    fn visit_type_trait_object(&mut self, _: &'ast TypeTraitObject) {}

    // The length of an array is an expression, in which no type is sent.
    fn visit_expr(&mut self, _: &'ast Expr) {}
}
