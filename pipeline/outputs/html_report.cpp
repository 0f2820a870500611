#include "pipeline/outputs/html_report.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "conf/base/base64.h"
#include "conf/base/markup.h"
#include "pipeline/outputs/pages.h"
#include "pipeline/outputs/png_file.h"
#include "pipeline/volume/anatomy_names.h"

namespace cardionode {
namespace {

constexpr int kPictureSide = 640;          // 60 mm on paper: 270 dots an inch
constexpr double kPictureTextScale = 1.5;  // readable at that size
constexpr std::size_t kPictures = 6;

// Cells are narrow and text is small so that everything stays on one sheet; on a screen the sheet has the same form.
constexpr const char* kStyle = R"(
@page { size: A4; margin: 8mm 10mm; }
* { box-sizing: border-box; margin: 0; }
body { font: 7.9pt/1.25 Arial, "Liberation Sans", "Helvetica Neue", "DejaVu Sans Condensed", sans-serif; color: #16191d; width: 190mm;
  margin: 0 auto; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
@media screen { body { padding: 6mm 0; } html { background: #fff; } }
.banner { background: #ffb020; font-weight: 700; padding: 1.2mm 2.5mm; display: flex; justify-content: space-between; }
.banner span { font-weight: 400; }
header { display: flex; justify-content: space-between; gap: 6mm; padding: 1.8mm 0 1.2mm; }
h1 { font-size: 14pt; line-height: 1.15; }
header div { font-size: 7.6pt; color: #444b54; }
header .right { text-align: right; max-width: 96mm; }
.tiles { display: grid; grid-template-columns: 1fr 1fr 1.35fr 1fr 1fr 1fr; gap: 1.6mm; margin-bottom: 1.6mm; }
.tile { border: 0.3mm solid #c9ced6; border-radius: 1mm; padding: 0.9mm 1.6mm; }
.tile b { display: block; font-size: 11pt; line-height: 1.2; white-space: nowrap; }
.tile i { font-style: normal; color: #444b54; font-size: 6.8pt; display: block; white-space: nowrap; }
.none b { color: #8b929c; }
.warnings { border-left: 1.2mm solid #ffb020; background: #fff6e2; padding: 0.9mm 2.2mm; margin-bottom: 1.6mm; }
.pictures { display: grid; grid-template-columns: repeat(3, 56mm); justify-content: space-between; row-gap: 1.4mm;
  margin-bottom: 1.8mm; }
.pictures img { width: 100%; display: block; }
.tables { display: grid; grid-template-columns: 1fr 1fr 61mm; gap: 3.5mm; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-size: 6.8pt; color: #444b54; border-bottom: 0.3mm solid #16191d; padding: 0.2mm 0.8mm; }
td { padding: 0.22mm 0.8mm; border-bottom: 0.15mm solid #dfe3e8; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
td { font-size: 7.4pt; }
td.s { color: #444b54; font-size: 6.8pt; }
tr.no td { color: #7a818b; }
.dot { display: inline-block; width: 2.3mm; height: 2.3mm; border-radius: 50%; border: 0.2mm solid #333; margin-right: 1mm;
  vertical-align: -0.2mm; }
.box { display: inline-block; width: 2.3mm; height: 2.3mm; border: 0.2mm solid #333; margin-right: 1mm;
  vertical-align: -0.2mm; }
p.s { font-size: 6.8pt; color: #444b54; margin-top: 1mm; }
h2 { font-size: 9pt; margin: 1.6mm 0 0.4mm; }
h2:first-child { margin-top: 0; }
footer { border-top: 0.3mm solid #16191d; margin-top: 1.6mm; padding-top: 0.8mm; font-size: 6.8pt; color: #444b54;
  overflow-wrap: anywhere; }
)";

std::string unit_of(const Measurement& m) {
    const std::string& unit = m.unit.value;
    if (unit == "1" || unit.starts_with("{")) return "";
    if (unit == "mm2") return " mm²";
    if (unit == "mm3") return " mm³";
    if (unit == "deg") return "°";
    return " " + unit;
}

/// As many digits as mean something.
int digits_for(double value) {
    const double size = std::abs(value);
    return size == 0 || size >= 100 ? 0 : size < 1 ? 2 : 1;
}

std::string value_of(const Measurement& m) {
    return fmt::format("{:.{}f}{}", *m.value, digits_for(*m.value), unit_of(m));
}
std::string plus_minus(const Measurement& m) {
    if (!m.value || !m.uncertainty || *m.uncertainty == 0) return {};
    return fmt::format("± {:.{}f}", *m.uncertainty, digits_for(*m.uncertainty));
}

/// "hinge_right,hinge_left,hinge_noncoronary,aorta,left_ventricle" -> "3 hinge points, lumen"
std::string rests_on(const Measurement& m) {
    std::vector<std::string> parts;
    std::string part;
    for (const char c : m.rests_on + ",") {
        if (c != ',') {
            part += c;
            continue;
        }
        part.erase(0, part.find_first_not_of(' '));
        if (!part.empty()) parts.push_back(part);
        part.clear();
    }
    const auto replace = [&](const auto& several, const char* by) {
        for (const std::string_view one : several) {
            if (std::find(parts.begin(), parts.end(), one) == parts.end()) return;
        }
        for (const std::string_view one : several) std::erase(parts, one);
        parts.insert(parts.begin(), by);
    };
    replace(std::array{names::kAorta, names::kLeftVentricle}, "lumen");
    replace(names::kHinges, "3 hinge points");
    std::string text;
    for (std::string& name : parts) {
        std::replace(name.begin(), name.end(), '_', ' ');
        text += (text.empty() ? "" : ", ") + name;
    }
    return text;
}

const Measurement* measurement(const Findings& findings, std::string_view name) {
    for (const Measurement& m : findings.measurements) {
        if (m.name == name) return &m;
    }
    return nullptr;
}

std::string tile(const std::string& title, const std::string& value, const std::string& below) {
    return fmt::format("<div class=\"tile{}\"><i>{}</i><b>{}</b><i>{}</i></div>\n", value.empty() ? " none" : "",
                       escaped_markup(title), value.empty() ? "–" : escaped_markup(value),
                       below.empty() ? "&nbsp;" : escaped_markup(below));
}

/// The six numbers that a valve is chosen by.
std::string tiles(const Findings& findings) {
    const auto of = [&](const char* title, const char* name) {
        const Measurement* m = measurement(findings, name);
        if (m == nullptr || !m->value) return tile(title, "", "not measured");
        return tile(title, value_of(*m), plus_minus(*m));
    };
    std::string diameters, below = "not measured";
    const Measurement *low = measurement(findings, "annulus_min_diameter_mm"),
                      *high = measurement(findings, "annulus_max_diameter_mm");
    if (low != nullptr && high != nullptr && low->value && high->value) {
        diameters = fmt::format("{:.1f} × {:.1f} mm", *low->value, *high->value);
        const std::string each = plus_minus(*high);
        below = each.empty() ? "" : each + " each";
    }
    return "<section class=\"tiles\">\n" + of("Annulus area", "annulus_area_mm2") +
           of("Annulus perimeter", "annulus_perimeter_mm") + tile("Annulus min × max", diameters, below) +
           of("Left ostium height", "left_ostium_height_mm") + of("Right ostium height", "right_ostium_height_mm") +
           of("Valve calcium", "valve_calcium_mm3") + "</section>\n";
}

std::string pictures(const CtSeries& source, const Findings& findings) {
    const Window window = choose_window(source, findings);
    std::string html = "<section class=\"pictures\">\n";
    for (const Page& page : pages_for_report(source, findings, kPictures)) {
        const std::string png = encode_png(draw_page(page, source, findings, window, kPictureSide, kPictureTextScale));
        html += fmt::format("<img alt=\"{}\" src=\"data:image/png;base64,{}\">\n",
                            escaped_markup(page.title + ", " + page.place), to_base64(png));
    }
    return html + "</section>\n";
}

/// Volumes of structures stand with the legend of the structures.
bool is_volume(const Measurement& m) { return m.name.ends_with("_volume_ml"); }

/// What a number rests on stands below the tables, under a letter: the same words hold for many of them.
class Footnotes {
public:
    std::string letter(const std::string& text) {
        if (text.empty()) return {};
        const auto known = std::find(texts_.begin(), texts_.end(), text);
        const auto n = static_cast<std::size_t>(known - texts_.begin());
        if (known == texts_.end()) texts_.push_back(text);
        return letter(n);
    }
    std::string html() const {
        if (texts_.empty()) return {};
        std::string text = "<p class=\"s\">± one standard deviation. Rests on: ";
        for (std::size_t n = 0; n < texts_.size(); ++n) {
            text += fmt::format("{}<b>{}</b> {}", n == 0 ? "" : " &ensp;", letter(n), escaped_markup(texts_[n]));
        }
        return text + "</p>\n";
    }

private:
    static std::string letter(std::size_t n) {
        const std::string last(1, static_cast<char>('a' + n % 26));
        return n < 26 ? last : letter(n / 26 - 1) + last;
    }
    std::vector<std::string> texts_;
};

/// Tables side by side, and the paragraphs below them. Calcium stands apart, in the column with the most room.
struct MeasurementTables {
    std::string left, right, calcium, below;
};

MeasurementTables measurement_tables(const Findings& findings) {
    std::vector<std::string> rows, titles_of_rows, calcium;
    Footnotes footnotes;
    std::vector<std::pair<std::string, std::string>> without;  // reason, titles; in the order of the measurements
    for (const Measurement& m : findings.measurements) {
        if (is_volume(m)) continue;
        if (m.value) {
            if (!m.name.starts_with("valve_calcium")) titles_of_rows.push_back(m.title);
            (m.name.starts_with("valve_calcium") ? calcium : rows)
                .push_back(fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td "
                                       "class=\"s\">{}</td></tr>\n",
                                       escaped_markup(m.title), escaped_markup(value_of(m)),
                                       escaped_markup(plus_minus(m)), footnotes.letter(rests_on(m))));
            continue;
        }
        const std::string reason = m.reason.empty() ? "no reason is known" : m.reason;
        auto known = std::find_if(without.begin(), without.end(), [&](const auto& w) { return w.first == reason; });
        if (known == without.end()) without.emplace_back(reason, m.title);
        else known->second += ", " + m.title;
    }
    MeasurementTables tables;
    const auto table = [](const char* title, const std::vector<std::string>& all, std::size_t first, std::size_t last) {
        std::string html = fmt::format("<h2>{}</h2>\n", title);
        if (first == last) return html;
        html += "<table><tr><th>what</th><th class=\"n\">value</th><th class=\"n\">±</th><th></th></tr>\n";
        for (std::size_t n = first; n < last; ++n) html += all[n];
        return html + "</table>\n";
    };
    // Half of the lines, not of the rows: a long title takes two.
    const auto lines = [](const std::string& title) { return 1 + title.size() / 31; };
    std::size_t all_lines = 0, half = 0;
    for (const std::string& title : titles_of_rows) all_lines += lines(title);
    for (std::size_t sum = 0; half < rows.size() && 2 * sum < all_lines; ++half) sum += lines(titles_of_rows[half]);
    tables.left = table("Measurements", rows, 0, half);
    tables.right = table("&nbsp;", rows, half, rows.size());
    if (!calcium.empty()) tables.calcium = table("Calcium", calcium, 0, calcium.size());
    if (!rows.empty() || !calcium.empty()) tables.below = footnotes.html();
    for (const auto& [reason, titles] : without) {
        tables.below += fmt::format("<p class=\"s\"><b>Not measured</b> ({}): {}.</p>\n", escaped_markup(reason),
                                    escaped_markup(titles));
    }
    return tables;
}

std::string swatch(const char* form, const Rgb& c) {
    return fmt::format("<span class=\"{}\" style=\"background:#{:02x}{:02x}{:02x}\"></span>", form, c.r, c.g, c.b);
}

std::string landmark_table(const Findings& findings) {
    std::string html =
        "<h2>Points</h2>\n<table><tr><th>point</th><th class=\"n\">L</th><th class=\"n\">P</th><th class=\"n\">S, "
        "mm</th>"
        "<th class=\"n\">prob.</th><th class=\"n\">error*</th></tr>\n";
    bool any_error = false;
    for (std::size_t n = 0; n < findings.landmarks.size(); ++n) {
        const Landmark& l = findings.landmarks[n];
        if (!l.position) {
            html +=
                fmt::format("<tr class=\"no\"><td>{}</td><td colspan=\"5\" class=\"s\">not found{}</td></tr>\n",
                            escaped_markup(short_title(l)), l.reason.empty() ? "" : ": " + escaped_markup(l.reason));
            continue;
        }
        const Vec3& p = l.position->lps_mm;
        any_error = any_error || l.expected_error_mm.has_value();
        const std::string error = l.expected_error_mm ? fmt::format("{:.1f}", *l.expected_error_mm) : "–";
        html += fmt::format(
            "<tr><td>{}{}</td><td class=\"n\">{:.1f}</td><td class=\"n\">{:.1f}</td><td "
            "class=\"n\">{:.1f}</td><td class=\"n\">{:.2f}</td><td class=\"n\">{}</td></tr>\n",
            swatch("dot", landmark_colour(n)), escaped_markup(short_title(l)), p[0], p[1], p[2], l.confidence, error);
    }
    html += "</table>\n";
    if (any_error) {
        html +=
            "<p class=\"s\">* median error in mm on synthetic phantoms that the model never saw: a phantom figure, not "
            "a clinical one.</p>\n";
    }
    return html;
}

std::string structure_table(const Findings& findings) {
    std::string html;
    for (const SegmentGroup& group : findings.groups) {
        const bool any = std::any_of(group.segments.begin(), group.segments.end(),
                                     [](const Segment& s) { return s.volume_ml.has_value(); });
        if (!any) continue;  // the measurements say what was looked for
        html += fmt::format("<h2>{}</h2>\n<p class=\"s\">", escaped_markup(group.title));
        bool first = true;
        for (const Segment& s : group.segments) {
            std::string volume = "not found";
            if (s.volume_ml) volume = fmt::format("{:.{}f} ml", *s.volume_ml, *s.volume_ml < 1 ? 3 : 0);
            html += fmt::format("{}{}{} {}", first ? "" : " &ensp;", swatch("box", {s.rgb[0], s.rgb[1], s.rgb[2]}),
                                escaped_markup(s.title), volume);
            first = false;
        }
        html += "</p>\n";
    }
    return html;
}

std::string row_text(const ReportFacts::Rows& rows) {
    std::string text;
    for (const auto& [name, value] : rows) {
        text += (text.empty() ? "" : " · ") + escaped_markup(name) + " <b>" + escaped_markup(value) + "</b>";
    }
    return text;
}

}  // namespace

std::string html_report(const CtSeries& source, const Findings& findings, const ReportFacts& facts) {
    const ModelIdentity& model = findings.model;
    const std::string made = to_iso8601(facts.moment).substr(0, 16);
    std::string html =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src "
        "'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>cardionode "
        "report</title>\n"
        "<style>";
    html += kStyle;
    html += "</style></head><body>\n";
    html +=
        "<div class=\"banner\">RESEARCH USE ONLY<span>Not a medical device. Made by software, not verified by a "
        "physician. No basis for any decision on a patient.</span></div>\n";
    html += fmt::format(
        "<header><div><h1>Aortic root from cardiac CT</h1>{}</div><div class=\"right\">{}<br>Model <b>{} "
        "{}</b> · {} UTC</div></header>\n",
        facts.identity.empty() ? "without patient identity" : row_text(facts.identity), escaped_markup(facts.images),
        escaped_markup(model.name), escaped_markup(model.version), made.substr(0, 10) + " " + made.substr(11));
    html += tiles(findings);
    if (!findings.warnings.empty()) {
        html += "<div class=\"warnings\">";
        for (std::size_t n = 0; n < findings.warnings.size(); ++n) {
            html += (n == 0 ? "" : "<br>") + escaped_markup(findings.warnings[n]);
        }
        html += "</div>\n";
    }
    html += pictures(source, findings);
    const MeasurementTables measured = measurement_tables(findings);
    html += "<section class=\"tables\"><div>\n" + measured.left + "</div><div>\n" + measured.right + "</div><div>\n" +
            landmark_table(findings) + structure_table(findings) + measured.calcium + "</div></section>\n" +
            measured.below;
    html += fmt::format(
        "<footer>cardionode {} · weights SHA-256 {}{}{} · coordinates: DICOM patient axes (L left, P back, "
        "S head)</footer>\n</body></html>\n",
        escaped_markup(facts.software_version), escaped_markup(model.sha256), facts.settings.empty() ? "" : " · ",
        row_text(facts.settings));
    return html;
}

}  // namespace cardionode
