// Draws on one page and remembers where text stands, so that labels do not lie on each other.
//
// Used inside pipeline/outputs only. Thread safety: belongs to one thread; the canvas must outlive it.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/outputs/canvas.h"

namespace cardionode {

struct Box {
    double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    bool meets(const Box& o) const { return x0 < o.x1 && o.x0 < x1 && y0 < o.y1 && o.y0 < y1; }
};

class Pen {
public:
    Pen(Canvas& canvas, int side, double text_scale = 1)
        : canvas_(canvas), side_(side), unit_(text_scale * side / 768.0) {}

    double unit() const { return unit_; }
    double side() const { return side_; }
    Canvas& canvas() { return canvas_; }

    void write(double x, double y, const std::string& text, double cap, Rgb colour) {
        canvas_.text({x, y}, text, cap, colour);
        taken_.push_back({x, y - cap * 1.2, x + Canvas::text_width(text, cap), y + cap * 0.4});
    }
    void write_right(double right, double y, const std::string& text, double cap, Rgb colour) {
        write(right - Canvas::text_width(text, cap), y, text, cap, colour);
    }
    void write_middle(double x, double y, const std::string& text, double cap, Rgb colour) {
        write(x - Canvas::text_width(text, cap) / 2, y, text, cap, colour);
    }
    void take(const Box& box) { taken_.push_back(box); }

    /// A label near a point, at the first place that is free; a thin line leads to one that is further away.
    void label(Pixel point, double gap, const std::string& text, double cap, Rgb colour) {
        const double width = Canvas::text_width(text, cap);
        for (double away = gap; away < 12 * gap; away += gap) {
            for (const auto& [fx, fy] : {std::pair{1.0, 0.0},
                                         {-1.0, 0.0},
                                         {0.8, -0.8},
                                         {-0.8, -0.8},
                                         {0.8, 0.8},
                                         {-0.8, 0.8},
                                         {0.0, -1.0},
                                         {0.0, 1.0}}) {
                const double anchor_x = point.x + fx * away, anchor_y = point.y + fy * away;
                const double x = fx > 0 ? anchor_x : fx < 0 ? anchor_x - width : anchor_x - width / 2;
                const double y = anchor_y + cap / 2;
                const Box box{x - 3, y - cap * 1.3, x + width + 3, y + cap * 0.5};
                const bool inside = box.x0 > 4 && box.y0 > 4 && box.x1 < side_ - 4 && box.y1 < side_ - 4;
                if (!inside || std::any_of(taken_.begin(), taken_.end(), [&](const Box& b) { return b.meets(box); })) {
                    continue;
                }
                if (away > 1.5 * gap) {
                    const Pixel line[2] = {{point.x + fx * gap * 0.7, point.y + fy * gap * 0.7}, {anchor_x, anchor_y}};
                    canvas_.polyline(line, 1.2 * unit_, colour, 0.7);
                }
                write(x, y, text, cap, colour);
                return;
            }
        }
    }

private:
    Canvas& canvas_;
    double side_, unit_;
    std::vector<Box> taken_;
};

}  // namespace cardionode
