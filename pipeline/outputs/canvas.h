// A picture of RGB pixels with anti-aliased lines, rings and text: all that key images need, without a graphics
// library.
//
// Coordinates are pixels, x to the right, y downwards; (0.5, 0.5) is the centre of the first pixel. What falls outside
// is cut off. Text is ASCII in a stroke font of our own (stroke_font.h). Thread safety: a value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cardionode {

struct Rgb {
    std::uint8_t r = 0, g = 0, b = 0;
};

struct Pixel {
    double x = 0, y = 0;
};

class Canvas {
public:
    Canvas(int width, int height, Rgb fill);

    int width() const { return width_; }
    int height() const { return height_; }
    /// width * height * 3 bytes, row by row.
    const std::vector<std::uint8_t>& pixels() const { return pixels_; }

    void set(int x, int y, Rgb colour);
    /// @param alpha  0 leaves the pixel, 1 replaces it
    void blend(int x, int y, Rgb colour, double alpha);
    void rectangle(double x0, double y0, double x1, double y1, Rgb colour, double alpha);
    void polyline(std::span<const Pixel> points, double line_width, Rgb colour, double alpha = 1);
    void dashed_line(Pixel from, Pixel to, double dash, double line_width, Rgb colour, double alpha = 1);
    void ring(Pixel centre, double radius, double line_width, Rgb colour, double alpha = 1);
    void disc(Pixel centre, double radius, Rgb colour, double alpha = 1);

    /// @param at          left end of the baseline
    /// @param cap_height  of capital letters, pixels
    /// A dark rim keeps the text readable on any background.
    void text(Pixel at, const std::string& text, double cap_height, Rgb colour);
    static double text_width(const std::string& text, double cap_height);

    void paste(const Canvas& other, int x, int y);

private:
    int width_, height_;
    std::vector<std::uint8_t> pixels_;
};

}  // namespace cardionode
