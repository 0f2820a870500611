#include "pipeline/read/read_study.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <new>

#include "pipeline/read/assemble.h"
#include "pipeline/read/instance.h"
#include "pipeline/read/pixels.h"
#include "pipeline/read/stacks.h"

namespace cardionode {

namespace {

/// "1 SEG, 2 SR"
std::string counted(const std::map<std::string, int>& counts) {
    std::string words;
    for (const auto& [what, n] : counts) words += fmt::format("{}{} {}", words.empty() ? "" : ", ", n, what);
    return words;
}

struct Headers {
    std::vector<InstanceFacts> instances;
    std::map<std::string, int> others;      ///< modality -> number of files that are no CT
    std::map<std::string, int> unreadable;  ///< reason -> number of files
};

Result<Headers> read_headers(std::span<const StudyFile> files, const ReadLimits& limits,
                             const std::function<bool()>& one_more) {
    Headers h;
    for (const StudyFile& f : files) {
        std::string sop_class = f.sop_class_uid;
        std::string modality = f.modality;
        if (sop_class.empty()) {
            Result<ClassAndModality> found = read_class(f.file, limits.max_file_bytes);
            if (!found && found.error().kind != ErrorKind::Reject) return std::move(found).error();
            if (!found) {
                ++h.unreadable[found.error().message];
                if (!one_more()) return retry_error("reading the study was cancelled");
                continue;
            }
            sop_class = found->sop_class_uid;
            modality = found->modality;
        }
        // An object without a class is looked at where it says CT, so that the reason of its refusal is the true one.
        if (!is_ct_class(sop_class) && !(sop_class.empty() && modality == "CT")) {
            ++h.others[modality.empty()   ? "object without modality"
                       : modality == "CT" ? "CT object of another kind"
                                          : modality];
        } else {
            Result<InstanceFacts> facts = read_instance(f.file, limits.max_file_bytes);
            if (!facts && facts.error().kind != ErrorKind::Reject) return std::move(facts).error();
            if (facts) h.instances.push_back(std::move(facts).value());
            else ++h.unreadable[facts.error().message];
        }
        if (!one_more()) return retry_error("reading the study was cancelled");
    }
    return h;
}

Error nothing_to_read(const Headers& h) {
    const std::string others = h.others.empty() ? "" : " (" + counted(h.others) + ")";
    if (h.unreadable.empty()) return reject_error("the study holds no CT images" + others);
    std::string message = "no image of the study can be read" + others;
    for (const auto& [reason, n] : h.unreadable)
        message += fmt::format("; {} file{}: {}", n, n == 1 ? "" : "s", reason);
    return reject_error(std::move(message));
}

Error nothing_usable(const Headers& h, const Choice& choice) {
    std::string message = "no CT series of the study can be used";
    for (const std::string& line : choice.not_chosen) message += "\n" + line;
    for (const auto& [reason, n] : h.unreadable)
        message += fmt::format("\n{} file{}: {}", n, n == 1 ? "" : "s", reason);
    return reject_error(std::move(message));
}

}  // namespace

Result<CtSeries> read_study(std::span<const StudyFile> files, const SeriesSettings& settings, const ReadLimits& limits,
                            const ReadProgress& progress) {
    int done = 0;
    int total = static_cast<int>(files.size());
    const auto one_more = [&] {
        ++done;
        return !progress || progress(done, std::max(done, total));
    };
    Result<Headers> headers = read_headers(files, limits, one_more);
    if (!headers) return std::move(headers).error();
    if (headers->instances.empty()) return nothing_to_read(*headers);

    const std::vector<Stack> stacks = make_stacks(headers->instances, settings);
    const Choice choice = choose_stack(stacks, settings);
    if (!choice.best) return nothing_usable(*headers, choice);
    const Stack& stack = stacks[*choice.best];
    Result<Grid> grid = grid_of(stack, limits.max_voxels);
    if (!grid) return std::move(grid).error().in(stack.label);

    total += static_cast<int>(stack.planes.size());
    PixelReader pixels(limits);
    bool cancelled = false;
    Result<Volume> volume = retry_error("not read");
    try {
        volume = assemble(stack, *grid, [&](std::size_t k, std::span<float> into) -> Result<void> {
            const Plane2d& plane = stack.planes[k];
            Result<void> read = pixels.read_hu(*plane.instance, *plane.frame, into);
            if (!read) {
                return std::move(read).error().in(fmt::format("{}, slice {} of {} at {:.1f} mm", stack.label, k + 1,
                                                              stack.planes.size(), plane.position_mm));
            }
            if (one_more()) return {};
            cancelled = true;
            return retry_error("reading the study was cancelled");
        });
    } catch (const std::bad_alloc&) {
        return retry_error("no memory for the volume");
    }
    if (!volume) return std::move(volume).error();

    const InstanceFacts& first = *stack.planes.front().instance;
    CtSeries series{std::move(volume).value(), {}, false, {}, {}, {}, {}, {}, {}, false, {}, false};
    for (const Plane2d& p : stack.planes) {
        series.slices.push_back(
            {p.instance->file, p.instance->sop_class_uid, p.instance->sop_instance_uid, p.frame->frame, p.position_mm});
        series.lossy = series.lossy || p.instance->lossy;
    }
    series.resampled = stack.needs_resampling();
    series.study_instance_uid = first.study_instance_uid;
    series.series_instance_uid = first.series_instance_uid;
    series.frame_of_reference_uid = first.frame_of_reference_uid;
    series.why_chosen = choice.why;
    series.not_chosen = choice.not_chosen;
    series.warnings = stack.warnings;
    series.contrast_named = stack.contrast == Contrast::Named;
    series.phase_percent = stack.phase_percent;
    if (!series.contrast_named) series.warnings.emplace_back("no contrast agent is named in the images' headers");
    if (series.lossy) series.warnings.emplace_back("the images were compressed with loss");
    for (const auto& [reason, n] : headers->unreadable) {
        series.warnings.push_back(fmt::format("{} file{} of the study left out: {}", n, n == 1 ? "" : "s", reason));
    }
    return series;
}

}  // namespace cardionode
