//! The bytes of an image file to RGB, with limits checked before any pixel is decoded.

use super::{Alpha, ImageOptions};
use crate::{Error, ErrorKind, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::Cursor;

/// The most pixels a picture may have: 64 million, more than any usual camera makes.
pub const MAX_PIXELS: u64 = 64_000_000;
/// The longest side a picture may have, that of the JPEG format.
pub const MAX_SIDE: u32 = 65_535;

/// What a decoder may allocate beside its input: a picture of [`MAX_PIXELS`] with four channels of
/// 16 bits, and as much again to work in.
const MAX_DECODER_BYTES: u64 = MAX_PIXELS * 16;
const FORMATS: &str = "png, jpeg, webp, gif or bmp";

/// Decodes a png, jpeg, webp, gif or bmp file, recognised by its content, never by its name.
///
/// Of an animation the first frame is taken. Palettes and grey are expanded, of 16-bit samples the
/// high byte is kept, colour profiles are ignored: as Pillow's `convert("RGB")` does, with these
/// differences: 16-bit grey keeps its high byte (Pillow clips it to 255); the colours of jpeg and of
/// lossy webp may be a few levels off, since their decoders round in other places; EXIF data that
/// follows the pixels of a png is not seen.
///
/// # Errors
///
/// [`ErrorKind::BadImage`] for bytes that are empty, no image, damaged or cut short;
/// [`ErrorKind::ImageTooLarge`] above [`MAX_PIXELS`] or [`MAX_SIDE`], decided from the header alone.
pub fn decode(bytes: &[u8], options: &ImageOptions) -> Result<RgbImage> {
    let format = sniff(bytes)?;
    let damaged = |error| unreadable(format, error);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    if format == ImageFormat::Jpeg {
        check_jpeg_is_complete(bytes)?;
    }
    let orientation =
        if options.apply_exif { decoder.orientation().map_err(damaged)? } else { Orientation::NoTransforms };
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let mut upright = DynamicImage::ImageRgb8(to_rgb(picture, options.alpha)?);
    upright.apply_orientation(orientation);
    Ok(upright.into_rgb8())
}

/// A picture somebody else has decoded: `width * height` pixels of four bytes, row by row, alpha not
/// premultiplied, as a canvas gives them. EXIF is the decoder's business.
///
/// # Errors
///
/// [`ErrorKind::BadImage`] when the number of bytes does not fit the size or there are no pixels;
/// [`ErrorKind::ImageTooLarge`] above [`MAX_PIXELS`] or [`MAX_SIDE`].
pub fn from_rgba(width: u32, height: u32, rgba: &[u8], options: &ImageOptions) -> Result<RgbImage> {
    check_size(width, height)?;
    let expected = u64::from(width) * u64::from(height) * 4;
    if rgba.len() as u64 != expected {
        return Err(bad(format!(
            "pixels of a {width} x {height} picture: found {} bytes, expected {expected} (four a pixel)",
            rgba.len()
        )));
    }
    flatten(width, height, 4, rgba, options.alpha)
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadImage, message)
}

fn name(format: ImageFormat) -> &'static str {
    format.extensions_str().first().copied().unwrap_or("image")
}

/// The format the content says it has.
fn sniff(bytes: &[u8]) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(bad(format!("the image is empty (0 bytes); expected {FORMATS}")));
    }
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Gif
            | ImageFormat::Bmp),
        ) => Ok(format),
        Ok(other) => {
            Err(bad(format!("the image is {}, which is not supported; expected {FORMATS}", name(other))))
        }
        Err(_) => Err(bad(format!("not an image: found {}; expected {FORMATS}", describe(bytes)))),
    }
}

/// What unrecognised bytes seem to be, for the error message.
fn describe(bytes: &[u8]) -> String {
    if bytes.get(4..8) == Some(b"ftyp") {
        let brand = String::from_utf8_lossy(bytes.get(8..12).unwrap_or_default());
        return format!("a media container of brand {brand:?} (heic, avif or video)");
    }
    let head = &bytes[..bytes.len().min(32)];
    // A multi-byte character may be cut by the 32-byte window: up to three bytes may be left over.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if head.len() - error.valid_up_to() < 4 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    };
    if !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()) {
        format!("text that begins {text:?}")
    } else {
        let head: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{} bytes that begin {}", bytes.len(), head.join(" "))
    }
}

fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(bad(format!("the image is {width} x {height}: it has no pixels")));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(Error::new(
            ErrorKind::ImageTooLarge,
            format!(
                "the image is {width} x {height} pixels; the limit is {} million pixels and {MAX_SIDE} a side",
                MAX_PIXELS / 1_000_000
            ),
        ));
    }
    Ok(())
}

/// The decoder's own error, told apart into too large and damaged.
fn unreadable(format: ImageFormat, error: image::ImageError) -> Error {
    let (kind, message) = match &error {
        image::ImageError::Limits(_) => (
            ErrorKind::ImageTooLarge,
            format!(
                "the {} image needs more memory than a picture of {} million pixels",
                name(format),
                MAX_PIXELS / 1_000_000
            ),
        ),
        image::ImageError::IoError(_) => {
            (ErrorKind::BadImage, format!("the {} image is cut short", name(format)))
        }
        image::ImageError::Unsupported(_) => {
            (ErrorKind::BadImage, format!("the {} image uses an unsupported feature", name(format)))
        }
        _ => (ErrorKind::BadImage, format!("the {} image is damaged or cut short", name(format))),
    };
    Error::new(kind, message).with_source(error)
}

/// Walks the segments of a jpeg up to its end-of-image marker.
///
/// The decoder fills what is missing from a short file with grey and reports success; a caption of
/// that would be wrong without a word. Pillow refuses such files too.
fn check_jpeg_is_complete(bytes: &[u8]) -> Result<()> {
    const END_OF_IMAGE: u8 = 0xd9;
    let mut at = 2;
    // In a scan, bytes other than ff are entropy-coded data, and so is ff 00; between segments there
    // should be none, and decoders skip what there is.
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += offset + 1;
        match bytes.get(at) {
            None => break,
            Some(&END_OF_IMAGE) => return Ok(()),
            // A stuffed byte, fill, or a marker that stands alone (temporary, restart, start).
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xff) => {}
            // Any other marker is followed by its length, which counts itself.
            Some(_) => {
                let Some(&[high, low]) = bytes.get(at + 1..at + 3) else { break };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    Err(bad(format!("the jpg image is cut short: no end-of-image marker in its {} bytes", bytes.len())))
}

fn to_rgb(picture: DynamicImage, alpha: Alpha) -> Result<RgbImage> {
    let (width, height) = (picture.width(), picture.height());
    match picture {
        DynamicImage::ImageRgb8(rgb) => Ok(rgb),
        DynamicImage::ImageLuma8(grey) => flatten(width, height, 1, grey.as_raw(), alpha),
        DynamicImage::ImageLumaA8(grey) => flatten(width, height, 2, grey.as_raw(), alpha),
        DynamicImage::ImageRgba8(rgba) => flatten(width, height, 4, rgba.as_raw(), alpha),
        DynamicImage::ImageLuma16(grey) => flatten(width, height, 1, &high_bytes(grey.as_raw()), alpha),
        DynamicImage::ImageLumaA16(grey) => flatten(width, height, 2, &high_bytes(grey.as_raw()), alpha),
        DynamicImage::ImageRgb16(rgb) => flatten(width, height, 3, &high_bytes(rgb.as_raw()), alpha),
        DynamicImage::ImageRgba16(rgba) => flatten(width, height, 4, &high_bytes(rgba.as_raw()), alpha),
        other => Err(bad(format!("samples of type {:?} are not supported", other.color()))),
    }
}

fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|sample| (sample >> 8) as u8).collect()
}

/// Grey, grey and alpha, RGB or RGBA (1 to 4 channels) to RGB.
fn flatten(width: u32, height: u32, channels: usize, samples: &[u8], alpha: Alpha) -> Result<RgbImage> {
    let mut rgb = Vec::with_capacity(samples.len() / channels * 3);
    for pixel in samples.chunks_exact(channels) {
        let (color, opacity) = match *pixel {
            [grey] => ([grey; 3], 255),
            [grey, opacity] => ([grey; 3], opacity),
            [red, green, blue] => ([red, green, blue], 255),
            [red, green, blue, opacity] => ([red, green, blue], opacity),
            _ => unreachable!("a pixel has one to four channels"),
        };
        rgb.extend(match alpha {
            Alpha::White => color.map(|level| on_white(level, opacity)),
            Alpha::Discard => color,
        });
    }
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "a decoder returned fewer pixels than its header says")
    })
}

/// A level of the given opacity over white, to the nearest level (as Pillow's `alpha_composite`).
fn on_white(level: u8, opacity: u8) -> u8 {
    let (level, opacity) = (u32::from(level), u32::from(opacity));
    ((level * opacity + 255 * (255 - opacity) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> Error {
        decode(bytes, &ImageOptions::default()).unwrap_err()
    }

    /// The header of a png without its pixels.
    fn png_header(width: u32, height: u32) -> Vec<u8> {
        let mut png = Vec::new();
        RgbImage::new(1, 1).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        // The chunk's checksum: CRC-32 of type and content, bit by bit.
        let crc = !png[12..29].iter().fold(!0u32, |crc, &byte| {
            (0..8)
                .fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
        });
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        png
    }

    #[test]
    fn an_empty_file_is_a_bad_image() {
        let error = error(&[]);
        assert_eq!(error.kind(), ErrorKind::BadImage);
        assert!(error.message().contains("empty"), "{error}");
    }

    #[test]
    fn what_is_not_an_image_is_named_in_the_error() {
        for (bytes, found) in [
            (&b"a text file that is called photo.jpg"[..], "text that begins \"a text file"),
            ("ein Text mit Umlauten wie diesen \u{e4}\u{f6}\u{fc}".as_bytes(), "text that begins"),
            (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "\"heic\""),
            (&[0, 1, 2, 3], "4 bytes that begin 00 01 02 03"),
            (b"II\x2a\x00\x08\x00\x00\x00", "tiff"),
        ] {
            let error = error(bytes);
            assert_eq!(error.kind(), ErrorKind::BadImage);
            assert!(error.message().contains(found), "{error} should name {found}");
            assert!(error.message().contains(FORMATS), "{error}");
        }
    }

    #[test]
    fn a_picture_over_the_limit_is_refused_by_its_header() {
        for (width, height) in [(20_000, 20_000), (65_536, 1), (1, 70_000), (8_001, 8_000)] {
            let error = error(&png_header(width, height));
            assert_eq!(error.kind(), ErrorKind::ImageTooLarge, "{error}");
            assert!(error.message().contains("64 million"), "{error}");
        }
        assert_eq!(error(&png_header(8_000, 8_000)).kind(), ErrorKind::BadImage, "within it, but no pixels");
    }

    #[test]
    fn rgba_must_have_four_bytes_a_pixel() {
        let options = ImageOptions::default();
        for (width, height, bytes) in [(2, 2, 15), (2, 2, 17), (0, 4, 0), (3, 0, 0)] {
            let error = from_rgba(width, height, &vec![0; bytes], &options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadImage);
        }
        let error = from_rgba(u32::MAX, u32::MAX, &[], &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
    }

    #[test]
    fn transparency_is_composited_on_white_or_dropped() {
        let rgba = [10, 20, 30, 0, 10, 20, 30, 128, 10, 20, 30, 255];
        let white = from_rgba(3, 1, &rgba, &ImageOptions::default()).unwrap();
        assert_eq!(white.as_raw()[..], [255, 255, 255, 132, 137, 142, 10, 20, 30]);
        let dropped = from_rgba(3, 1, &rgba, &ImageOptions::reference()).unwrap();
        assert_eq!(dropped.as_raw()[..], [10, 20, 30, 10, 20, 30, 10, 20, 30]);
    }
}
