//! A guarded value and the name of its guard.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Expr, Member, Token};

use crate::errors::Errors;

pub(super) struct Binding {
    pub(super) name: Ident,
    pub(super) operand: Expr,
}

impl Binding {
    /// Gives nothing if an error was added.
    pub(super) fn parse(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Option<Self>> {
        if let Some(mutability) = input.parse::<Option<Token![mut]>>()? {
            errors.at(mutability, "a guard is mutable anyway: leave `mut` out");
        }
        if input.peek(Token![_]) {
            let underscore: Token![_] = input.parse()?;
            errors.at(
                underscore,
                "a guard has a name even if nothing uses it: write `_guard`",
            );
            input.parse::<Token![=]>()?;
            parse_operand(input)?;
            return Ok(None);
        }
        if input.peek(syn::Ident) && is_assignment_next(input) {
            return Self::parse_named(input, errors);
        }
        let operand = parse_operand(input)?;
        Ok(match variable(&operand) {
            Some(name) if !is_constant(name) => Some(Self {
                name: name.clone(),
                operand,
            }),
            _ => {
                errors.at(&operand, unnamed(&operand));
                None
            }
        })
    }

    fn parse_named(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Option<Self>> {
        let name: Ident = input.parse()?;
        input.parse::<Token![=]>()?;
        let operand = parse_operand(input)?;
        if is_constant(&name) && variable(&operand) == Some(&name) {
            errors.at(&name, unnamed(&operand));
            return Ok(None);
        }
        Ok(Some(Self { name, operand }))
    }

    /// Adds an error if one of the bindings before this has its name.
    pub(super) fn check_name(&self, before: &[Self], errors: &mut Errors) {
        if before.iter().any(|binding| binding.name == self.name) {
            let name = &self.name;
            errors.at(
                name,
                format_args!(
                    "`{name}` is the name of a guard before this one: write `another = ...`"
                ),
            );
        }
    }
}

/// A brace after the operand begins the block, before which the `=>` is missing.
fn parse_operand(input: ParseStream<'_>) -> syn::Result<Expr> {
    input.call(Expr::parse_without_eager_brace)
}

fn is_assignment_next(input: ParseStream<'_>) -> bool {
    input.peek2(Token![=]) && !input.peek2(Token![==]) && !input.peek2(Token![=>])
}

/// The variable, static or constant that an expression is, unless it is more than a name.
fn variable(expression: &Expr) -> Option<&Ident> {
    match expression {
        // What a `macro_rules!` macro passes on as `$value:expr` comes in an invisible group.
        Expr::Group(group) => variable(&group.expr),
        Expr::Path(path) if path.qself.is_none() && path.attrs.is_empty() => {
            path.path.get_ident().filter(|name| *name != "self")
        }
        _ => None,
    }
}

/// Whether a name is written as that of a static or of a constant, and so most probably is one.
fn is_constant(name: &Ident) -> bool {
    let name = name.to_string();
    name.contains(char::is_uppercase) && !name.contains(char::is_lowercase)
}

/// Says how to give the guard of `operand` a name.
fn unnamed(operand: &Expr) -> String {
    if let Some(name) = variable(operand) {
        let guard = guard_name(name);
        return format!("name the guard, `{guard} = {name}`: a `let` cannot shadow a static");
    }
    match (last_name(operand), text(operand)) {
        (Some(name), Some(text)) => {
            format!("name the guard: write `{} = {text}`", guard_name(name))
        }
        (Some(name), None) => {
            let guard = guard_name(name);
            format!("name the guard: write `{guard} = ` before the expression")
        }
        (None, _) => "name the guard: write `name = ` before the expression".to_owned(),
    }
}

fn guard_name(name: &Ident) -> String {
    name.unraw().to_string().to_lowercase()
}

/// The last name in an expression, after which its guard may well be called.
fn last_name(expression: &Expr) -> Option<&Ident> {
    match expression {
        Expr::Group(group) => last_name(&group.expr),
        Expr::Paren(paren) => last_name(&paren.expr),
        Expr::Reference(reference) => last_name(&reference.expr),
        Expr::Unary(unary) => last_name(&unary.expr),
        Expr::Index(index) => last_name(&index.expr),
        Expr::Try(attempt) => last_name(&attempt.expr),
        Expr::Call(call) => last_name(&call.func),
        Expr::MethodCall(call) if call.method == "clone" => last_name(&call.receiver),
        Expr::MethodCall(call) => Some(&call.method),
        Expr::Path(path) => {
            let last = path.path.segments.last().map(|segment| &segment.ident);
            last.filter(|name| *name != "self" && *name != "Self")
        }
        Expr::Field(field) => match &field.member {
            Member::Named(name) => Some(name),
            Member::Unnamed(_) => last_name(&field.base),
        },
        _ => None,
    }
}

/// How an expression is written, if it is as short as a path or a field.
fn text(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Path(path) if path.qself.is_none() => {
            let segments = path.path.segments.iter();
            let names: Option<Vec<_>> = segments
                .map(|segment| {
                    let name = segment.arguments.is_none().then_some(&segment.ident);
                    name.map(ToString::to_string)
                })
                .collect();
            let root = path.path.leading_colon.map_or("", |_| "::");
            Some(format!("{root}{}", names?.join("::")))
        }
        Expr::Field(field) => {
            let base = text(&field.base)?;
            match &field.member {
                Member::Named(name) => Some(format!("{base}.{name}")),
                Member::Unnamed(index) => Some(format!("{base}.{}", index.index)),
            }
        }
        _ => None,
    }
}
