//! The colours of boxes, those of the page: a hue for each module, a shade for each function, so
//! that the same function looks the same in every graph.

use crate::model::functions::Functions;
use crate::model::recording::Recording;
use std::collections::HashMap;

/// Hues that are nearer than this, in degrees, look the same.
const NEAR: u32 = 30;
/// A step around the circle that comes back late to where it has been.
const STEP: u32 = 137;

/// Hues of modules.
pub(super) struct Palette {
    hues: HashMap<u32, u32>,
}

impl Palette {
    /// The heaviest modules choose first.
    pub(super) fn of(recording: &Recording, functions: &Functions) -> Self {
        let mut weights: HashMap<u32, u64> = HashMap::new();
        for function in functions.list.iter().filter(|function| function.total > 0) {
            if let Some(module) = function.module {
                let weight = weights.entry(module).or_default();
                *weight = weight.saturating_add(function.total);
            }
        }
        let mut modules: Vec<(u32, u64)> = weights.into_iter().collect();
        modules.sort_by_key(|(module, weight)| (std::cmp::Reverse(*weight), *module));
        let mut hues: HashMap<u32, u32> = HashMap::new();
        for (module, _) in modules {
            let name = recording.modules.get(module as usize).map_or("", |module| module.name());
            let mut hue = hash(name) % 360;
            for _ in 0..9 {
                let near =
                    |other: &u32| hue.abs_diff(*other).min(360 - hue.abs_diff(*other)) < NEAR;
                if !hues.values().any(near) {
                    break;
                }
                hue = (hue + STEP) % 360;
            }
            hues.insert(module, hue);
        }
        Self { hues }
    }

    /// `#rrggbb`. What belongs to no module is not known, and grey.
    pub(super) fn colour(&self, name: &str, module: Option<u32>) -> String {
        let shade = f64::from((hash(name) >> 8) % 9) / 100.0 - 0.04;
        match module.and_then(|module| self.hues.get(&module)) {
            Some(hue) => hex(0.84 + shade, 0.088, f64::from(*hue)),
            None => hex(0.84 + shade / 2.0, 0.006, 80.0),
        }
    }
}

/// A number for a text that is the same everywhere and always (FNV-1a over UTF-16, as the page's
/// script has it).
fn hash(text: &str) -> u32 {
    let value = text
        .encode_utf16()
        .fold(0x811c_9dc5_u32, |value, unit| (value ^ u32::from(unit)).wrapping_mul(0x0100_0193));
    (value ^ (value >> 15)).wrapping_mul(0x2c1b_3c6d)
}

/// From OKLCH (lightness 0 to 1, chroma, hue in degrees) to sRGB, by Ottosson's definition of the
/// space: not every program that shows SVG knows `oklch()`.
pub(super) fn hex(lightness: f64, chroma: f64, hue: f64) -> String {
    let (a, b) = (chroma * hue.to_radians().cos(), chroma * hue.to_radians().sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548 * b).powi(3);
    let linear = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701 * s,
    ];
    let byte = |value: f64| {
        let value = value.clamp(0.0, 1.0);
        let encoded = if value <= 0.003_130_8 {
            12.92 * value
        } else {
            1.055 * value.powf(1.0 / 2.4) - 0.055
        };
        (encoded * 255.0).round() as u8
    };
    let [red, green, blue] = linear.map(byte);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::{Palette, hash, hex};
    use crate::model::file::tests::complete;
    use crate::model::functions::Functions;

    #[test]
    fn known_colours() {
        // White, black and red as the definition of CSS gives them.
        for (colour, expected) in [
            ((1.0, 0.0, 0.0), "#ffffff"),
            ((0.0, 0.0, 0.0), "#000000"),
            ((0.627_955, 0.257_683, 29.233_885), "#ff0000"),
        ] {
            assert_eq!(hex(colour.0, colour.1, colour.2), expected);
        }
    }

    #[test]
    fn the_hash_is_that_of_the_page() {
        // As another program computed it.
        assert_eq!(["", "malloc", "µ"].map(hash), [447753804, 3333598257, 109883]);
    }

    #[test]
    fn modules_differ_and_functions_stay_the_same() {
        let recording = complete();
        let palette = Palette::of(&recording, &Functions::of(&recording));
        let hue = |at| palette.hues[&at];
        assert!(hue(0).abs_diff(hue(1)).min(360 - hue(0).abs_diff(hue(1))) >= super::NEAR);
        assert_eq!(palette.colour("f", Some(0)), palette.colour("f", Some(0)));
        assert_ne!(palette.colour("f", Some(0)), palette.colour("f", Some(1)));
        let grey = palette.colour("[no stack]", None);
        assert!(grey[1..3] == grey[3..5] || grey.len() == 7, "{grey}");
    }
}
