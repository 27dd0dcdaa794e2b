//! Line charts as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::journal::unusable;
use crate::Result;

/// A line with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is called.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";

/// Draws curves over a common axis into an SVG file; nothing where there are no two points to join.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io).
pub fn line_chart(path: &Path, across: &str, up: &str, curves: &[Curve]) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (left, right) = range(&mut points().map(|point| point.0));
    let (_, top) = range(&mut points().map(|point| point.1));
    if left >= right || top <= 0.0 {
        return Ok(());
    }
    let mut drawing = String::new();
    {
        let area = SVGBackend::with_string(&mut drawing, SIZE).into_drawing_area();
        draw(&area, (left, right, 1.05 * top), (across, up), curves).map_err(|e| unusable(path, e))?;
    }
    std::fs::write(path, drawing).map_err(|e| unusable(path, e))
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    (left, right, top): (f64, f64, f64),
    (across, up): (&str, &str),
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(left..right, 0.0..top)?;
    chart.configure_mesh().x_desc(across).y_desc(up).label_style((FONT, 14)).draw()?;
    for (index, curve) in curves.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
            .label(&*curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font((FONT, 14))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()
}
