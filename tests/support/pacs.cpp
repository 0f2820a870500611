#include "tests/support/pacs.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <stdexcept>

#include "tests/support/free_port.h"

namespace cardionode::test {
namespace {

constexpr auto kProgram = "/usr/sbin/Orthanc";

std::string program_of_orthanc() { return installed(kProgram) ? kProgram : "Orthanc"; }

std::optional<std::pair<int, std::string>> http(int port, const std::string& request) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval longest{30, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof longest);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::string answer;
    bool whole = false;
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
        char buffer[65536];
        ssize_t n = 0;
        while ((n = ::recv(fd, buffer, sizeof buffer, 0)) > 0) answer.append(buffer, static_cast<std::size_t>(n));
        whole = n == 0;
    }
    ::close(fd);
    const auto body = answer.find("\r\n\r\n");
    if (!whole || answer.size() < 12 || body == std::string::npos) return std::nullopt;
    return std::pair(std::stoi(answer.substr(9, 3)), answer.substr(body + 4));
}

}  // namespace

std::optional<std::pair<int, std::string>> http_get(int port, const std::string& path) {
    return http(port, "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n");
}

std::optional<std::pair<int, std::string>> http_post(int port, const std::string& path, const std::string& body) {
    return http(port, "POST " + path + " HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
                          "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
}

bool Orthanc::available() { return installed(program_of_orthanc()); }

Orthanc::Orthanc(const std::filesystem::path& folder, const std::map<std::string, int>& modalities)
    : folder_(std::filesystem::absolute(folder)), port_(free_port()), http_port_(free_port()) {
    std::filesystem::create_directories(folder_ / "db");
    nlohmann::json known = nlohmann::json::object();
    for (const auto& [title, port] : modalities) known[title] = {title, "127.0.0.1", port};
    const nlohmann::json configuration = {{"Name", "PACS1"},
                                          {"StorageDirectory", (folder_ / "db").string()},
                                          {"IndexDirectory", (folder_ / "db").string()},
                                          {"Plugins", nlohmann::json::array()},
                                          {"HttpServerEnabled", true},
                                          {"HttpPort", http_port_},
                                          {"RemoteAccessAllowed", false},
                                          {"AuthenticationEnabled", false},
                                          {"DicomServerEnabled", true},
                                          {"DicomAet", ae_title()},
                                          {"DicomPort", port_},
                                          {"DicomModalities", known},
                                          {"DicomCheckCalledAet", true},
                                          {"DicomCheckModalityHost", false},
                                          {"DicomAlwaysAllowStore", true},
                                          {"UnknownSopClassAccepted", false},
                                          {"StrictAetComparison", true},
                                          {"OverwriteInstances", false},
                                          {"SaveJobs", false},
                                          {"SyncStorageArea", false},
                                          {"StableAge", 5}};
    std::ofstream(folder_ / "orthanc.json") << configuration.dump(2);
}

void Orthanc::start() {
    if (running()) return;
    Process::Options options;
    options.output = folder_ / "orthanc.log";
    options.environment["TCP_NODELAY"] = "1";
    process_ = Process::start({program_of_orthanc(), (folder_ / "orthanc.json").string()}, options);
    const bool answers = eventually(std::chrono::seconds(60), [this] {
        return !process_->running() || (http_get(http_port_, "/system") && listens(port_));
    });
    if (!answers || !process_->running()) throw std::runtime_error("Orthanc did not start; see " + folder_.string());
}

void Orthanc::stop() {
    if (process_) process_->stop();
    process_.reset();
}

std::string Orthanc::get_bytes(const std::string& path) const {
    const auto answer = http_get(http_port_, path);
    if (!answer || answer->first != 200) {
        throw std::runtime_error("Orthanc: GET " + path + ": " +
                                 (answer ? std::to_string(answer->first) : "no answer"));
    }
    return answer->second;
}

nlohmann::json Orthanc::post(const std::string& path, const nlohmann::json& body) const {
    const auto answer = http_post(http_port_, path, body.dump());
    if (!answer || answer->first != 200) {
        throw std::runtime_error("Orthanc: POST " + path + ": " +
                                 (answer ? std::to_string(answer->first) + " " + answer->second : "no answer"));
    }
    return nlohmann::json::parse(answer->second);
}

nlohmann::json Orthanc::get(const std::string& path) const { return nlohmann::json::parse(get_bytes(path)); }

std::vector<Orthanc::Held> Orthanc::instances() const {
    const auto tag = [](const nlohmann::json& tags, const char* name) { return tags.value(name, std::string()); };
    std::map<std::string, std::string> study_of;  // Orthanc's IDs
    for (const auto& study : get("/studies?expand"))
        study_of[study["ID"]] = tag(study["MainDicomTags"], "StudyInstanceUID");
    std::vector<Held> all;
    for (const auto& series : get("/series?expand")) {
        for (const auto& id : series["Instances"]) {
            Held held;
            held.id = id;
            held.modality = tag(series["MainDicomTags"], "Modality");
            held.series_instance_uid = tag(series["MainDicomTags"], "SeriesInstanceUID");
            held.series_description = tag(series["MainDicomTags"], "SeriesDescription");
            held.study_instance_uid = study_of[series["ParentStudy"]];
            held.sop_instance_uid = tag(get("/instances/" + held.id)["MainDicomTags"], "SOPInstanceUID");
            held.sop_class_uid = get_bytes("/instances/" + held.id + "/metadata/SopClassUid");
            all.push_back(held);
        }
    }
    return all;
}

std::map<std::string, int> Orthanc::counts() const {
    std::map<std::string, int> counts;
    for (const auto& series : get("/series?expand")) {
        counts[series["MainDicomTags"].value("Modality", "?")] += static_cast<int>(series["Instances"].size());
    }
    return counts;
}

void Orthanc::download(const Held& held, const std::filesystem::path& file) const {
    const std::string bytes = get_bytes("/instances/" + held.id + "/file");
    std::ofstream out(file, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out) throw std::runtime_error("cannot write " + file.string());
}

}  // namespace cardionode::test
