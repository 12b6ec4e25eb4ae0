//! `shareable_pod!`, for types of which every bit pattern is a value.

/// Lets types of your own that are `bytemuck::Pod` live in memory that processes share: implements
/// [`Shareable`](crate::Shareable) for each of them. With the feature `bytemuck`.
///
/// Every bit pattern of such a type is a value, so what a killed process leaves half written is one
/// too; whether it makes sense is for the lock around it to say. For a type of another crate there
/// is [`Pod`](crate::Pod).
///
/// ```
/// #![forbid(unsafe_code)]
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Pixel {
///     rgba: [u8; 4],
/// }
///
/// mp::shareable_pod!(Pixel);
///
/// # fn main() -> Result<(), mp::Error> {
/// let image: mp::Array<Pixel> = mp::Array::zeroed(640 * 480)?;
/// image.lock()?[7].rgba[3] = 255;
/// # assert_eq!(image.lock()?[7].rgba, [0, 0, 0, 255]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// It does not compile if a type is not `bytemuck::Pod`:
///
/// ```compile_fail,E0277
/// #[derive(Clone, Copy)]
/// struct Letter(char);
///
/// mp::shareable_pod!(Letter);
/// ```
#[macro_export]
macro_rules! shareable_pod {
    ($($type:ty),+ $(,)?) => {$(
        const _: () = {
            const fn is_pod<T: $crate::__private::bytemuck::Pod>() {}
            is_pod::<$type>();
        };

        // SAFETY: `bytemuck::Pod`, which was just asked for, has neither pointers nor anything to
        // drop, and every bit pattern of it is a value, zero and any mixture of two included.
        unsafe impl $crate::Shareable for $type {
            const __ZERO_IS_VALID: ::core::primitive::bool = true;
        }

        // SAFETY: as above.
        unsafe impl $crate::__private::AnyBits for $type {}

        // SAFETY: as for numbers.
        unsafe impl $crate::__private::Optional for $type {}
    )+};
}
