//! The parts that need no compiler. What a user sees is tested in the root, with trybuild.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{File, Item, ItemConst, Stmt, Type, parse_quote};

use super::{field, shareable};
use crate::errors::Errors;

fn error_count(ty: &Type) -> usize {
    let mut errors = Errors::default();
    field::check(ty, &mut errors);
    errors.into_compile_errors().len()
}

#[test]
fn a_type_that_may_be_shareable_is_left_to_the_trait() {
    let types: [Type; 12] = [
        parse_quote!(u32),
        parse_quote!([(u8, Option<f64>); 4]),
        parse_quote!(mp::sync::Mutex<u32>),
        parse_quote!(Mutex<u32>),
        parse_quote!(Condvar),
        parse_quote!(std::sync::atomic::AtomicU64),
        parse_quote!(core::num::NonZeroU8),
        parse_quote!(self::String),
        parse_quote!(text::String),
        parse_quote!(Tagged<String>),
        parse_quote!(PhantomData<fn(&str)>),
        parse_quote!(<T as Kind>::Vec),
    ];
    for ty in types {
        assert_eq!(error_count(&ty), 0, "{}", ty.to_token_stream());
    }
}

#[test]
fn what_points_into_one_process_is_refused_wherever_it_is_in_place() {
    let types: [(Type, usize); 9] = [
        (parse_quote!(String), 1),
        (parse_quote!(::std::string::String), 1),
        (parse_quote!(alloc::vec::Vec<u8>), 1),
        (parse_quote!([String; 2]), 1),
        (parse_quote!((Box<u8>, (u8, &'static u8), *mut u8)), 3),
        (parse_quote!(Option<Option<fn()>>), 1),
        (parse_quote!(mp::sync::RwLock<(String, String)>), 2),
        (parse_quote!(Vec<Vec<String>>), 1),
        (parse_quote!(std::sync::Mutex<String>), 1),
    ];
    for (ty, expected) in types {
        assert_eq!(error_count(&ty), expected, "{}", ty.to_token_stream());
    }
}

fn items(item: TokenStream) -> Vec<Item> {
    let expansion = shareable(item);
    let file: File = syn::parse2(expansion).expect("it is Rust");
    let [Item::Const(ItemConst { expr, .. })] = &file.items[..] else {
        panic!("it is an anonymous constant");
    };
    let syn::Expr::Block(block) = &**expr else {
        panic!("its value is a block");
    };
    let items = block.block.stmts.iter().map(|statement| match statement {
        Stmt::Item(item) => item.clone(),
        _ => panic!("there are items in it"),
    });
    items.collect()
}

#[test]
fn the_first_impl_is_that_of_the_trait_with_the_bounds_it_needs() {
    let generic = items(quote! {
        struct Pair<T: Copy, const N: usize> where [T; N]: Copy {
            r#first: T,
            second: [T; N],
        }
    });
    let expected = quote! {
        #[automatically_derived]
        unsafe impl<T: Copy + ::mp::Shareable, const N: usize> ::mp::Shareable for Pair<T, N>
        where
            [T; N]: Copy
        {
            const __MEND: ::mp::__private::Mend = ::mp::__private::Mend::Fields(&[
                (::core::mem::offset_of!(Self, r#first), <T as ::mp::Shareable>::__MEND),
                (::core::mem::offset_of!(Self, second), <[T; N] as ::mp::Shareable>::__MEND)
            ]);
            const __ZERO_IS_VALID: ::core::primitive::bool = true
                && <T as ::mp::Shareable>::__ZERO_IS_VALID
                && <[T; N] as ::mp::Shareable>::__ZERO_IS_VALID;
        }
    };
    assert_eq!(
        generic[0].to_token_stream().to_string(),
        expected.to_string()
    );
}

#[test]
fn an_enum_may_stand_in_an_option() {
    let traits: Vec<_> = items(quote!(
        enum Phase {
            First,
            Second,
        }
    ))
    .into_iter()
    .filter_map(|item| match item {
        Item::Impl(item) if item.unsafety.is_some() => item.trait_,
        _ => None,
    })
    .map(|(path, _)| path.to_token_stream().to_string().replace(' ', ""))
    .collect();
    assert_eq!(traits, ["::mp::Shareable", "::mp::__private::Optional"]);
}

#[test]
fn what_is_refused_has_the_trait_unless_it_cannot() {
    let has_trait = |item: TokenStream| {
        let expansion = shareable(item).to_string();
        assert!(expansion.contains("compile_error"), "{expansion}");
        expansion.contains("unsafe impl")
    };
    assert!(has_trait(quote!(
        struct S(String);
    )));
    assert!(has_trait(quote!(
        struct S<T>(T, &'static str);
    )));
    assert!(has_trait(quote!(
        enum E {}
    )));
    assert!(!has_trait(quote!(
        struct S(*const u8);
    )));
    assert!(!has_trait(quote!(
        struct S([Rc<u8>; 2]);
    )));
    assert!(!has_trait(quote!(
        struct S(Box<dyn Job>);
    )));
    assert!(!has_trait(quote!(
        struct S<'a>(&'a u8);
    )));
}
