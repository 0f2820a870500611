#include "pipeline/outputs/key_images.h"

#include <dcmtk/config/osconfig.h>
#include <dcmtk/dcmdata/dctk.h>
#include <fmt/format.h>

#include "pipeline/outputs/pages.h"
#include "pipeline/outputs/png_file.h"

namespace cardionode {
namespace {

using dicom::put;
using dicom::put_short_text;
using dicom::put_us;

constexpr int kSide = 768;
constexpr int kSeriesNumber = 9301;

void fill(const OutputContext& context, DcmDataset& dataset, const Page& page, const Canvas& canvas,
          const ObjectIdentity& identity) {
    context.begin(dataset, identity);
    put(dataset, DCM_ConversionType, "WSD");
    put(dataset, DCM_BodyPartExamined, "HEART");
    put(dataset, DCM_ImageType, "DERIVED\\SECONDARY");
    put(dataset, DCM_BurnedInAnnotation, "NO");  // nothing in the pixels identifies the patient
    put(dataset, DCM_LossyImageCompression, "00");
    put(dataset, DCM_DateOfSecondaryCapture, context.content_date());
    put(dataset, DCM_TimeOfSecondaryCapture, context.content_time());
    put_short_text(dataset, DCM_DerivationDescription, "Landmarks and contours drawn by software, research use only");
    put(dataset, DCM_ImageComments, context.text("RESEARCH USE ONLY. " + page.title));
    if (page.view) {
        put(dataset, DCM_PatientOrientation,
            direction_letters(page.view->right) + "\\" + direction_letters(page.view->down));
    } else {
        put(dataset, DCM_PatientOrientation, "");
    }
    if (page.slice && !context.source.resampled) {
        const SourceSlice& slice = context.source.slices[static_cast<std::size_t>(*page.slice)];
        DcmItem& image = dicom::append_item(dataset, DCM_SourceImageSequence);
        put(image, DCM_ReferencedSOPClassUID, slice.sop_class_uid);
        put(image, DCM_ReferencedSOPInstanceUID, slice.sop_instance_uid);
        if (slice.frame > 0) put(image, DCM_ReferencedFrameNumber, std::to_string(slice.frame));
        dicom::append_code(image, DCM_PurposeOfReferenceCodeSequence,
                           {"121322", "DCM", "Source image for image processing operation"});
    }
    put_us(dataset, DCM_SamplesPerPixel, 3);
    put(dataset, DCM_PhotometricInterpretation, "RGB");
    put_us(dataset, DCM_PlanarConfiguration, 0);
    put_us(dataset, DCM_Rows, static_cast<std::uint16_t>(canvas.height()));
    put_us(dataset, DCM_Columns, static_cast<std::uint16_t>(canvas.width()));
    put_us(dataset, DCM_BitsAllocated, 8);
    put_us(dataset, DCM_BitsStored, 8);
    put_us(dataset, DCM_HighBit, 7);
    put_us(dataset, DCM_PixelRepresentation, 0);
    dataset.putAndInsertUint8Array(DCM_PixelData, canvas.pixels().data(), canvas.pixels().size());
}

}  // namespace

Result<std::vector<OutputFile>> write_key_images(const OutputContext& context, const std::filesystem::path& folder) {
    const Window window = choose_window(context.source, context.findings);
    std::vector<OutputFile> files;
    int number = 0;
    for (const Page& page : plan_pages(context.source, context.findings)) {
        ++number;
        OutputFile file{"KEY_IMAGE", UID_SecondaryCaptureImageStorage, context.uid({"KEY_IMAGE", page.id}),
                        (folder / fmt::format("key_{:02}_{}.dcm", number, page.id)).string()};
        const ObjectIdentity identity{file.sop_class_uid,
                                      file.sop_instance_uid,
                                      context.uid({"series", "KEY_IMAGE"}),
                                      "OT",
                                      kSeriesNumber,
                                      "Key images (research)",
                                      number};
        DcmDataset dataset;
        fill(context, dataset, page, draw_page(page, context.source, context.findings, window, kSide), identity);
        if (auto saved = dicom::save(dataset, context.request.work_folder / file.file); !saved) {
            return std::move(saved).error().in("writing key image " + page.id);
        }
        files.push_back(std::move(file));
    }
    return files;
}

Result<void> write_overview_png(const CtSeries& source, const Findings& findings, const std::filesystem::path& file) {
    const auto pages = plan_pages(source, findings);
    const Window window = choose_window(source, findings);
    auto written = write_png(draw_mosaic(pages, source, findings, window), file);
    if (!written) return std::move(written).error().in("writing the overview");
    return {};
}

Result<std::filesystem::path> write_overview(const OutputContext& context, const std::filesystem::path& folder) {
    const std::filesystem::path file = folder / "overview.png";
    auto written = write_overview_png(context.source, context.findings, context.request.work_folder / file);
    if (!written) return std::move(written).error();
    return file;
}

}  // namespace cardionode
