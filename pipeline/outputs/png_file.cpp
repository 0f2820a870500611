#include "pipeline/outputs/png_file.h"

#include <stdexcept>
#include <string>

#include <png.h>

#include "conf/base/files.h"

namespace cardionode {

std::string encode_png(const Canvas& canvas) {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = static_cast<png_uint_32>(canvas.width());
    image.height = static_cast<png_uint_32>(canvas.height());
    image.format = PNG_FORMAT_RGB;
    std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(image), '\0');
    png_alloc_size_t size = bytes.size();
    if (png_image_write_to_memory(&image, bytes.data(), &size, 0, canvas.pixels().data(), 0, nullptr) == 0) {
        throw std::logic_error(std::string("cannot encode a PNG: ") + image.message);
    }
    bytes.resize(size);
    return bytes;
}

Result<void> write_png(const Canvas& canvas, const std::filesystem::path& file) {
    return write_file_durably(file, encode_png(canvas));
}

}  // namespace cardionode
