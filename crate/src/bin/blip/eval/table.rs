//! A report as a table: one number a line, with its interval.

use serde_json::Value;

/// What is shown of a measure: its name, where it is (a JSON pointer), and what it is multiplied by.
type Row = (&'static str, &'static str, &'static str, f64);

const ROWS: &[Row] = &[
    ("caption", "exact, %", "/exact", 100.0),
    ("caption", "CIDEr, x 100", "/cider", 100.0),
    ("caption", "ROUGE-L, %", "/rougeL", 100.0),
    ("caption", "BLEU-1, %", "/bleu/0", 100.0),
    ("caption", "BLEU-4, %", "/bleu/3", 100.0),
    ("vqa", "generated, accuracy, %", "/generated/accuracy", 100.0),
    ("vqa", "generated, exact, %", "/generated/exact", 100.0),
    ("vqa", "chosen, accuracy, %", "/ranked/accuracy", 100.0),
    ("vqa", "chosen, exact, %", "/ranked/exact", 100.0),
    ("retrieval", "ITC, text for picture, R@1, %", "/byContrast/toText/recall/0", 1.0),
    ("retrieval", "ITC, text for picture, R@5, %", "/byContrast/toText/recall/1", 1.0),
    ("retrieval", "ITC, picture for text, R@1, %", "/byContrast/toImage/recall/0", 1.0),
    ("retrieval", "ITC, picture for text, R@5, %", "/byContrast/toImage/recall/1", 1.0),
    ("retrieval", "ITM, text for picture, R@1, %", "/reranked/toText/recall/0", 1.0),
    ("retrieval", "ITM, text for picture, R@5, %", "/reranked/toText/recall/1", 1.0),
    ("retrieval", "ITM, picture for text, R@1, %", "/reranked/toImage/recall/0", 1.0),
    ("retrieval", "ITM, picture for text, R@5, %", "/reranked/toImage/recall/1", 1.0),
    ("negatives", "ITM prefers the caption, %", "/pairs", 100.0),
    ("negatives", "to every false one, %", "/pictures", 100.0),
    ("negatives", "ITC prefers the caption, %", "/pairsByContrast", 100.0),
    ("negatives", "on the right side of a half, %", "/decisions", 100.0),
    ("nlvr2", "accuracy, %", "/accuracy", 100.0),
    ("dialogue", "R@1, %", "/ranks/recall/0", 1.0),
    ("dialogue", "R@5, %", "/ranks/recall/1", 1.0),
    ("dialogue", "MRR, %", "/ranks/meanReciprocalRank", 1.0),
    ("dialogue", "mean rank", "/ranks/meanRank", 1.0),
];

const MEASURES: [&str; 6] = ["caption", "vqa", "retrieval", "negatives", "nlvr2", "dialogue"];

/// Lines of measure, number and 95 % interval, and what was left out.
pub(super) fn of(report: &Value) -> String {
    let mut text = format!("{}\n", report["data"].as_str().unwrap_or_default());
    for (measure, name, place, scale) in ROWS {
        let Some(value) = report[*measure].pointer(place) else { continue };
        let Some(number) = number(value) else { continue };
        let show = |number: f64| format!("{:.2}", number * scale);
        text += &format!("{measure:<10} {name:<32} {:>7}", show(number));
        // Those of a list of recalls stand beside the list.
        let beside = report[*measure].pointer(&place.replace("/recall/", "/recallIntervals/"));
        let interval = value.get("interval").or(beside.filter(|_| value.is_number()));
        if let Some([low, high]) = interval.and_then(ends) {
            text += &format!("  {:>6} to {:>6}", show(low), show(high));
        }
        text.push('\n');
    }
    for measure in MEASURES {
        for (reason, count) in report[measure]["left"].as_object().into_iter().flatten() {
            text += &format!("{measure:<10} left out: {count} examples, {reason}\n");
        }
    }
    text
}

/// A number, or that of a share or of a mean.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value["share"].as_f64()).or_else(|| value["value"].as_f64())
}

fn ends(interval: &Value) -> Option<[f64; 2]> {
    Some([interval["low"].as_f64()?, interval["high"].as_f64()?])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_number_is_shown_with_its_interval() {
        let report = json!({
            "data": "4 records in 1 shards",
            "caption": {
                "exact": {"right": 3, "total": 4, "share": 0.75, "interval": {"low": 0.3, "high": 0.95}},
                "bleu": [0.5, 0.4, 0.3, 0.2],
                "left": {"bad-image": 2},
            },
            "dialogue": {"ranks": {
                "recall": [50.0, 100.0, 100.0], "recallIntervals": [{"low": 9.0, "high": 91.0}],
                "meanRank": 1.5,
            }},
        });
        let expected = "4 records in 1 shards\n\
            caption    exact, %                           75.00   30.00 to  95.00\n\
            caption    BLEU-1, %                          50.00\n\
            caption    BLEU-4, %                          20.00\n\
            dialogue   R@1, %                             50.00    9.00 to  91.00\n\
            dialogue   R@5, %                            100.00\n\
            dialogue   mean rank                           1.50\n\
            caption    left out: 2 examples, bad-image\n";
        assert_eq!(of(&report), expected);
    }
}
