//! `spawn!(f(a, b))`: a call, taken apart into a function and a tuple.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, ExprCall, Token};

pub(crate) fn spawn(input: TokenStream) -> TokenStream {
    match parse.parse2(input) {
        Ok(call) => expand(&call),
        Err(error) => error.to_compile_error(),
    }
}

const USAGE: &str = "`spawn!` takes a call of a process function, such as `spawn!(square(12))`";

fn parse(input: ParseStream<'_>) -> syn::Result<ExprCall> {
    if input.is_empty() {
        return Err(syn::Error::new(Span::call_site(), USAGE));
    }
    let expression: Expr = input.parse()?;
    let call = check(expression)?;
    input.parse::<Option<Token![,]>>()?;
    if !input.is_empty() {
        let rest: TokenStream = input.parse()?;
        return Err(syn::Error::new_spanned(
            rest,
            "`spawn!` takes one call and nothing after it; options go to `mp::Builder`",
        ));
    }
    Ok(call)
}

fn check(expression: Expr) -> syn::Result<ExprCall> {
    match without_group(expression) {
        Expr::Call(call) if is_path(&call.func) => Ok(call),
        Expr::Call(call) => Err(syn::Error::new_spanned(
            call.func,
            format!("{USAGE}: name the function by its path"),
        )),
        Expr::MethodCall(call) => Err(syn::Error::new_spanned(
            call.method,
            format!("{USAGE}, not of a method: pass the receiver as an argument"),
        )),
        Expr::Path(path) => Err(syn::Error::new_spanned(
            path,
            format!("{USAGE}: add the arguments in parentheses"),
        )),
        other => Err(syn::Error::new_spanned(other, USAGE)),
    }
}

/// What a `macro_rules!` macro passes on as `$call:expr` comes in an invisible group.
fn without_group(mut expression: Expr) -> Expr {
    while let Expr::Group(group) = expression {
        expression = *group.expr;
    }
    expression
}

fn is_path(function: &Expr) -> bool {
    match function {
        Expr::Path(_) => true,
        Expr::Group(group) => is_path(&group.expr),
        _ => false,
    }
}

fn expand(call: &ExprCall) -> TokenStream {
    let ExprCall { func, args, .. } = call;
    let span = Span::mixed_site();

    // The tuple stands where the user's parentheses stand, so that a wrong count is reported there.
    let arguments = args.iter();
    let tuple = quote_spanned!(call.paren_token.span.join()=> (#(#arguments,)*));
    quote_spanned!(span=> ::mp::Builder::new().spawn(#func, #tuple))
}
