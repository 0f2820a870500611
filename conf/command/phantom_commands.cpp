// cardionode phantom.
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/command/command.h"
#include "conf/command/shapes_folder.h"
#include "models/train/phantom_files.h"
#include "pipeline/outputs/ct_series_write.h"

namespace cardionode {
namespace {

struct PhantomCommand {
    std::uint64_t seed = 1;
    int count = 1, size = 96;
    double spacing = 2;
    std::string format = "nifti", profiles = "training";
    bool list_profiles = false;
    std::filesystem::path out, shapes;
    train::PhantomOptions drawn;
    PhantomCommand() { drawn.edition = 4; }
};

void list_profiles() {
    for (const train::PhantomProfile& p : train::phantom_profiles())
        fmt::print("{:<18} {:<9} {}\n", p.name, p.held_out ? "held out" : "training", p.description);
    fmt::print("\nContrast phases:");
    for (const std::string& phase : train::phantom_phases()) fmt::print(" {}", phase);
    fmt::print("\n");
}

Result<void> write_dicom(const train::Phantom& phantom, const PhantomCommand& options, std::uint64_t seed,
                         const std::filesystem::path& folder) {
    const train::PhantomGrid& g = phantom.grid;
    const double spacing = g.spacing;
    const Result<Grid> grid = Grid::create({{g.origin.x, g.origin.y, g.origin.z}}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}},
                                           {spacing, spacing, spacing}, {g.size[2], g.size[1], g.size[0]});
    if (!grid) return grid.error();
    CtSeriesText text;
    // Everything that decides the voxels, so that two different phantoms never share a UID.
    text.identity = fmt::format("cardionode phantom {} edition {} size {} spacing {} profiles {} profile {} phase {}",
                                seed, options.drawn.edition, options.size, options.spacing, options.profiles,
                                options.drawn.profile, options.drawn.phase);
    text.patient_id = fmt::format("PHANTOM-{}-{}", options.drawn.edition, seed);
    text.study_description = "Drawn phantom, no patient";
    text.series_description = fmt::format("seed {} {} {}", seed, phantom.profile, phantom.phase);
    text.contrast = phantom.contrast;
    return write_ct_series(Volume(*grid, phantom.hu), text, folder);
}

/// Moves what was written whole into its place; files of that name that were there are replaced.
Result<void> publish(const std::filesystem::path& written, const std::filesystem::path& out) {
    std::error_code error;
    if (!std::filesystem::exists(out)) {
        std::filesystem::rename(written, out, error);
        if (!error) return {};
        return config_error(fmt::format("cannot make {}: {}", out.string(), error.message()));
    }
    for (const auto& entry : std::filesystem::directory_iterator(written)) {
        const std::filesystem::path to = out / entry.path().filename();
        if (entry.is_directory()) std::filesystem::remove_all(to, error);
        std::filesystem::rename(entry.path(), to, error);
        if (error) return config_error(fmt::format("cannot write {}: {}", to.string(), error.message()));
    }
    std::filesystem::remove_all(written, error);
    return {};
}

Result<void> write_one(const train::PhantomAtlas& atlas, const PhantomCommand& options, std::uint64_t seed) {
    const train::PhantomGrid grid = train::PhantomGrid::around({0, 8, -5}, {options.size, options.size, options.size},
                                                               static_cast<float>(options.spacing));
    const std::filesystem::path folder = options.count == 1 ? options.out : options.out / std::to_string(seed);
    const train::Phantom phantom = train::draw_phantom(atlas, seed, grid, options.drawn);
    // Beside its place until it is whole.
    std::filesystem::path part = folder.has_filename() ? folder : folder.parent_path();
    part += fmt::format(".part-{}", getpid());
    Result<void> done = train::write_phantom(phantom, seed, part);
    if (done && options.format == "dicom") done = write_dicom(phantom, options, seed, part / "dicom");
    if (done) done = publish(part, folder);
    std::error_code no_matter;
    if (!done) std::filesystem::remove_all(part, no_matter);
    if (!done) return done;
    fmt::print("phantom {}{}{} in {}\n", seed, phantom.profile.empty() ? "" : ", " + phantom.profile,
               phantom.phase.empty() ? "" : ", " + phantom.phase, folder.string());
    return {};
}

Result<void> run_phantom(PhantomCommand& options) {
    if (options.list_profiles) {
        list_profiles();
        return {};
    }
    if (options.out.empty()) return config_error("--out is required: the folder to write to");
    train::PhantomOptions& drawn = options.drawn;
    if (drawn.edition == 1 && (!drawn.profile.empty() || !drawn.phase.empty() || options.profiles != "training")) {
        return config_error(
            "edition 1 has no scanner profiles and no contrast phases: leave --profile, --profiles and "
            "--contrast out, or take a later edition");
    }
    drawn.profiles = options.profiles == "held_out" ? train::ProfileSet::HeldOut
                     : options.profiles == "all"    ? train::ProfileSet::All
                                                    : train::ProfileSet::Training;
    Result<train::PhantomAtlas> atlas = train::PhantomAtlas::load(options.shapes);
    if (!atlas) return std::move(atlas).error();
    if (options.count > 1) {
        if (Result<void> made = make_folder(options.out); !made) return made;
    }
    for (int i = 0; i < options.count; ++i) {
        if (Result<void> r = write_one(*atlas, options, options.seed + static_cast<std::uint64_t>(i)); !r) return r;
    }
    return {};
}

}  // namespace

void register_phantom_commands(CLI::App& app) {
    CLI::App* command = app.add_subcommand("phantom", "Draw a cardiac CT phantom with exact labels and points");
    auto options = std::make_shared<PhantomCommand>();
    options->shapes = default_shapes_folder();
    std::vector<std::string> profiles;
    for (const train::PhantomProfile& p : train::phantom_profiles()) profiles.emplace_back(p.name);
    command->add_option("--out", options->out,
                        "Folder for ct.nii.gz, a label map a head, phantom.json (points in LPS mm) and phantom.png");
    command->add_option("--seed", options->seed, "One seed, one phantom (default 1)");
    command->add_option("--count", options->count, "Phantoms of this and the following seeds, a folder each")
        ->check(CLI::Range(1, 100000));
    command->add_option("--size", options->size, "Voxels a side (default 96)")->check(CLI::Range(16, 512));
    command->add_option("--spacing", options->spacing, "Voxel side in mm (default 2)")->check(CLI::Range(0.3, 8.0));
    command->add_option("--edition", options->drawn.edition, "1 to 4 (default): an edition never changes")
        ->check(CLI::Range(1, 4));
    command->add_option("--profile", options->drawn.profile, "This scanner profile (see --list-profiles)")
        ->check(CLI::IsMember(profiles));
    command->add_option("--profiles", options->profiles, "Draw from: training (default), held_out or all")
        ->check(CLI::IsMember({"training", "held_out", "all"}));
    command->add_option("--contrast", options->drawn.phase, "This contrast phase (see --list-profiles)")
        ->check(CLI::IsMember(train::phantom_phases()));
    command->add_flag("--list-profiles", options->list_profiles, "Print scanner profiles and contrast phases, no more");
    command->add_option("--format", options->format, "nifti (default); dicom: also a CT series in OUT/dicom")
        ->check(CLI::IsMember({"nifti", "dicom"}));
    command->add_option("--shapes", options->shapes, "Folder of the phantoms' sources");
    add_example(
        *command,
        "cardionode phantom --seed 7 --out /tmp/phantom7\n"
        "  cardionode phantom --seed 7 --contrast arterial --spacing 1 --size 192 --format dicom --out /tmp/p7\n"
        "  A phantom is drawn: nothing measured on it is clinical evidence.");
    command->callback([options] { finish(run_phantom(*options)); });
}

}  // namespace cardionode
