#include "tests/support/node.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/support/free_port.h"
#include "tests/support/scanner.h"

namespace cardionode::test {
namespace {

std::string text_of(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

std::string end_of(const std::string& text, std::size_t most) {
    return text.size() <= most ? text : "..." + text.substr(text.size() - most);
}

}  // namespace

Node::Node(NodeOptions options)
    : options_(std::move(options)), port_(options_.port != 0 ? options_.port : free_port()) {
    write_settings();
}

Node::~Node() {
    if (!::testing::Test::HasFailure()) return;
    std::cerr << "--- receiver.log\n"
              << end_of(receiver_log(), 4000) << "--- pipeline.log\n"
              << end_of(pipeline_log(), 6000) << "---\n";
}

void Node::write_settings() const {
    std::ofstream out(settings_file());
    out << "node:\n  spool: " << spool().string() << "\n  work: " << work().string()
        << "\n  database: " << (folder() / "queue/queue.db").string() << "\n"
        << "scp:\n  port: " << port_
        << "\n  min_free_mib: 64\n  series_quiet_seconds: " << options_.series_quiet_seconds
        << "\n  study_quiet_seconds: " << options_.study_quiet_seconds << "\n";
    if (!options_.more_series_settings.empty()) out << "series:\n" << options_.more_series_settings;
    out << "pipeline:\n  bundle: " << options_.bundle.string()
        << "\n  device: cpu\n  threads: 1\n  poll_seconds: 0.05\n"
        << "  lease_seconds: " << options_.lease_seconds << "\n  max_attempts: " << options_.max_attempts
        << "\n  retry_first_seconds: " << options_.retry_first_seconds << "\n  retry_longest_seconds: 4\n";
    if (!options_.destinations.empty()) out << "destinations:\n";
    for (const NodeOptions::Destination& d : options_.destinations) {
        out << "  - name: " << d.name << "\n    ae_title: " << d.ae_title
            << "\n    host: 127.0.0.1\n    port: " << d.port
            << "\n    retry_first_seconds: 1\n    retry_longest_seconds: 2\n    commitment: " << d.commitment
            << "\n    commitment_wait_seconds: 5\n";
    }
    if (!out) throw std::runtime_error("cannot write " + settings_file().string());
}

void Node::start_receiver() {
    Process::Options options;
    options.output = folder() / "receiver.log";
    receiver_ = Process::start({program("cardionode-scp"), "--config", settings_file().string()}, options);
    const bool answers = eventually(std::chrono::seconds(30), [this] {
        return !receiver_->running() || (listens(port_) && Scanner(port_, {}).echo() == 0);
    });
    if (!answers || !receiver_->running()) {
        throw std::runtime_error("the receiver did not start:\n" + receiver_log());
    }
}

void Node::start_pipeline() {
    Process::Options options;
    options.output = folder() / "pipeline.log";
    pipeline_ = Process::start({program("cardionode-pipeline"), "--config", settings_file().string()}, options);
}

std::string Node::receiver_log() const { return text_of(folder() / "receiver.log"); }
std::string Node::pipeline_log() const { return text_of(folder() / "pipeline.log"); }

Queue Node::queue() const {
    auto queue = Queue::open(folder() / "queue/queue.db");
    if (!queue) throw std::runtime_error(queue.error().message);
    return std::move(queue).value();
}

std::vector<StudyRow> Node::studies() const {
    auto rows = queue().studies();
    if (!rows) throw std::runtime_error(rows.error().message);
    return std::move(rows).value();
}

std::vector<StudyRow> Node::wait_until_settled(int count, std::chrono::seconds longest) const {
    std::vector<StudyRow> rows;
    const bool settled = eventually(longest, [&] {
        pause_for(std::chrono::milliseconds(100));
        rows = studies();
        return static_cast<int>(rows.size()) == count && std::all_of(rows.begin(), rows.end(), [](const StudyRow& row) {
                   return row.state == StudyState::Done || row.state == StudyState::SetAside;
               });
    });
    if (settled) return rows;
    std::string states;
    for (const StudyRow& row : rows) {
        states += " " + row.study_key + "=" + std::string(to_string(row.state)) + "(" + row.last_error + ")";
    }
    throw std::runtime_error("not settled within " + std::to_string(longest.count()) + " s:" + states);
}

bool Node::wait_for_pipeline_log(const std::string& text, std::chrono::seconds longest, std::size_t from) const {
    return eventually(longest, [&] {
        const std::string log = pipeline_log();
        return log.size() > from && log.find(text, from) != std::string::npos;
    });
}

Finished Node::command(std::vector<std::string> words) const {
    words.insert(words.begin(), program("cardionode"));
    words.insert(words.end(), {"--config", settings_file().string()});
    return run(words);
}

}  // namespace cardionode::test
