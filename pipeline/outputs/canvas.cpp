#include "pipeline/outputs/canvas.h"

#include <algorithm>
#include <cmath>

#include "pipeline/outputs/stroke_font.h"

namespace cardionode {
namespace {

double distance_to_segment(double x, double y, Pixel a, Pixel b) {
    const double dx = b.x - a.x, dy = b.y - a.y;
    const double length2 = dx * dx + dy * dy;
    const double t = length2 > 0 ? std::clamp(((x - a.x) * dx + (y - a.y) * dy) / length2, 0.0, 1.0) : 0.0;
    return std::hypot(x - a.x - t * dx, y - a.y - t * dy);
}

/// How much of each pixel of a box is covered. Strokes are united before they are blended, so that joints of a
/// half-transparent line do not come out darker.
class Coverage {
public:
    Coverage(const Canvas& canvas, double x0, double y0, double x1, double y1)
        : x0_(std::clamp(static_cast<int>(std::floor(x0)), 0, canvas.width())),
          y0_(std::clamp(static_cast<int>(std::floor(y0)), 0, canvas.height())),
          x1_(std::clamp(static_cast<int>(std::ceil(x1)), x0_, canvas.width())),
          y1_(std::clamp(static_cast<int>(std::ceil(y1)), y0_, canvas.height())),
          values_(static_cast<std::size_t>(x1_ - x0_) * static_cast<std::size_t>(y1_ - y0_)) {}

    void stroke(Pixel a, Pixel b, double line_width) {
        const double reach = line_width / 2 + 1;
        const int left = std::max(x0_, static_cast<int>(std::floor(std::min(a.x, b.x) - reach)));
        const int right = std::min(x1_, static_cast<int>(std::ceil(std::max(a.x, b.x) + reach)));
        const int top = std::max(y0_, static_cast<int>(std::floor(std::min(a.y, b.y) - reach)));
        const int bottom = std::min(y1_, static_cast<int>(std::ceil(std::max(a.y, b.y) + reach)));
        for (int y = top; y < bottom; ++y) {
            for (int x = left; x < right; ++x) {
                const double away = distance_to_segment(x + 0.5, y + 0.5, a, b);
                cover(x, y, line_width / 2 + 0.5 - away);
            }
        }
    }

    void ring(Pixel centre, double radius, double line_width) {
        for (int y = y0_; y < y1_; ++y) {
            for (int x = x0_; x < x1_; ++x) {
                const double away = std::abs(std::hypot(x + 0.5 - centre.x, y + 0.5 - centre.y) - radius);
                cover(x, y, line_width / 2 + 0.5 - away);
            }
        }
    }

    void blend_onto(Canvas& canvas, Rgb colour, double alpha) const {
        std::size_t n = 0;
        for (int y = y0_; y < y1_; ++y) {
            for (int x = x0_; x < x1_; ++x, ++n) {
                if (values_[n] > 0) canvas.blend(x, y, colour, alpha * values_[n]);
            }
        }
    }

private:
    void cover(int x, int y, double amount) {
        float& value = values_[static_cast<std::size_t>(y - y0_) * static_cast<std::size_t>(x1_ - x0_) +
                               static_cast<std::size_t>(x - x0_)];
        value = std::max(value, static_cast<float>(std::clamp(amount, 0.0, 1.0)));
    }
    int x0_, y0_, x1_, y1_;
    std::vector<float> values_;
};

}  // namespace

Canvas::Canvas(int width, int height, Rgb fill)
    : width_(width), height_(height), pixels_(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3) {
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) set(x, y, fill);
    }
}

void Canvas::set(int x, int y, Rgb colour) { blend(x, y, colour, 1); }

void Canvas::blend(int x, int y, Rgb colour, double alpha) {
    if (x < 0 || y < 0 || x >= width_ || y >= height_) return;
    std::uint8_t* pixel =
        pixels_.data() +
        (static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)) * 3;
    const auto mix = [alpha](std::uint8_t below, std::uint8_t above) {
        return static_cast<std::uint8_t>(std::lround(below + (above - below) * alpha));
    };
    pixel[0] = mix(pixel[0], colour.r);
    pixel[1] = mix(pixel[1], colour.g);
    pixel[2] = mix(pixel[2], colour.b);
}

void Canvas::rectangle(double x0, double y0, double x1, double y1, Rgb colour, double alpha) {
    for (int y = static_cast<int>(y0); y < static_cast<int>(y1); ++y) {
        for (int x = static_cast<int>(x0); x < static_cast<int>(x1); ++x) blend(x, y, colour, alpha);
    }
}

void Canvas::polyline(std::span<const Pixel> points, double line_width, Rgb colour, double alpha) {
    if (points.empty()) return;
    double x0 = points[0].x, x1 = x0, y0 = points[0].y, y1 = y0;
    for (const Pixel& p : points) {
        x0 = std::min(x0, p.x);
        x1 = std::max(x1, p.x);
        y0 = std::min(y0, p.y);
        y1 = std::max(y1, p.y);
    }
    const double rim = line_width / 2 + 1;
    Coverage coverage(*this, x0 - rim, y0 - rim, x1 + rim, y1 + rim);
    if (points.size() == 1) coverage.stroke(points[0], points[0], line_width);
    for (std::size_t n = 1; n < points.size(); ++n) coverage.stroke(points[n - 1], points[n], line_width);
    coverage.blend_onto(*this, colour, alpha);
}

void Canvas::dashed_line(Pixel from, Pixel to, double dash, double line_width, Rgb colour, double alpha) {
    const double length = std::hypot(to.x - from.x, to.y - from.y);
    if (length <= 0) return;
    const auto at = [&](double s) {
        return Pixel{from.x + (to.x - from.x) * s / length, from.y + (to.y - from.y) * s / length};
    };
    for (double s = 0; s < length; s += 2 * dash) {
        const Pixel piece[2] = {at(s), at(std::min(s + dash, length))};
        polyline(piece, line_width, colour, alpha);
    }
}

void Canvas::ring(Pixel centre, double radius, double line_width, Rgb colour, double alpha) {
    const double reach = radius + line_width;
    Coverage coverage(*this, centre.x - reach, centre.y - reach, centre.x + reach, centre.y + reach);
    coverage.ring(centre, radius, line_width);
    coverage.blend_onto(*this, colour, alpha);
}

void Canvas::disc(Pixel centre, double radius, Rgb colour, double alpha) {
    const Pixel point[1] = {centre};
    polyline(point, 2 * radius, colour, alpha);
}

void Canvas::text(Pixel at, const std::string& text, double cap_height, Rgb colour) {
    const double unit = cap_height / kCapHeight;
    const double line_width = std::max(1.1, cap_height * 0.13);
    const double rim = 3.5;
    const double right = at.x + text_width(text, cap_height) + rim;
    Coverage body(*this, at.x - rim, at.y - cap_height * 1.3, right, at.y + cap_height * 0.6);
    Coverage shadow(*this, at.x - rim, at.y - cap_height * 1.3, right, at.y + cap_height * 0.6);
    double x = at.x;
    for (const char c : text) {
        const Glyph& glyph = glyph_of(c);
        for (const auto& stroke : glyph.strokes) {
            for (std::size_t n = 0; n < stroke.size(); ++n) {
                const auto place = [&](const GlyphPoint& p) { return Pixel{x + p.x * unit, at.y - p.y * unit}; };
                const Pixel a = place(stroke[n == 0 ? 0 : n - 1]), b = place(stroke[n]);
                body.stroke(a, b, line_width);
                shadow.stroke(a, b, line_width + 3);
            }
        }
        x += glyph.advance * unit;
    }
    shadow.blend_onto(*this, {0, 0, 0}, 0.75);
    body.blend_onto(*this, colour, 1);
}

double Canvas::text_width(const std::string& text, double cap_height) {
    double units = 0;
    for (const char c : text) units += glyph_of(c).advance;
    return units * cap_height / kCapHeight;
}

void Canvas::paste(const Canvas& other, int x, int y) {
    for (int j = 0; j < other.height_; ++j) {
        for (int i = 0; i < other.width_; ++i) {
            const std::uint8_t* pixel =
                other.pixels_.data() +
                (static_cast<std::size_t>(j) * static_cast<std::size_t>(other.width_) + static_cast<std::size_t>(i)) *
                    3;
            set(x + i, y + j, {pixel[0], pixel[1], pixel[2]});
        }
    }
}

}  // namespace cardionode
