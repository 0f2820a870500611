// Result and Error: how this project reports what the world can do to it.
//
// A function that can fail because of a peer, a file, data, a full disk or a full GPU returns Result<T>.
// A broken assumption of our own throws; each thread's top level catches once and treats it as ErrorKind::Bug.
// Thread safety: values, no shared state. Header only, no dependencies.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace cardionode {

/// What the caller should do about it, not what went wrong.
enum class ErrorKind {
    Retry,   ///< The same call may succeed later: peer away, disk full, GPU memory full. Back off and repeat.
    Reject,  ///< This input will never work: show the reason, set it aside, go on with the next.
    Config,  ///< The installation is wrong: stop and tell the administrator.
    Bug,     ///< An assumption of ours is broken: set the input aside and keep what helps to find it.
};

/// The lower-case word of a kind, as it stands in logs and in the queue.
constexpr std::string_view to_string(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::Retry: return "retry";
        case ErrorKind::Reject: return "reject";
        case ErrorKind::Config: return "config";
        case ErrorKind::Bug: return "bug";
    }
    return "bug";
}

struct [[nodiscard]] Error {
    ErrorKind kind = ErrorKind::Bug;
    std::string message;  ///< For a person; never holds a patient's name, ID, birth date or a DICOM UID.

    /// The same error seen from one step further out: "sending SEG: connection refused".
    Error in(std::string_view doing) && {
        message.insert(0, std::string(doing) + ": ");
        return std::move(*this);
    }
};

inline Error retry_error(std::string message) { return {ErrorKind::Retry, std::move(message)}; }
inline Error reject_error(std::string message) { return {ErrorKind::Reject, std::move(message)}; }
inline Error config_error(std::string message) { return {ErrorKind::Config, std::move(message)}; }
inline Error bug_error(std::string message) { return {ErrorKind::Bug, std::move(message)}; }

/// Holds a T or an Error, nothing else. Asking for the one that is not there throws std::logic_error.
template <class T>
class [[nodiscard]] Result {
    static_assert(!std::is_same_v<T, Error>);

public:
    using value_type = T;
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }

    const T& value() const& {
        require_value();
        return std::get<0>(state_);
    }
    T& value() & {
        require_value();
        return std::get<0>(state_);
    }
    /// By value: a reference into a temporary Result would dangle in `for (x : f().value())`.
    T value() && {
        require_value();
        return std::get<0>(std::move(state_));
    }
    const T& operator*() const& { return value(); }
    T& operator*() & { return value(); }
    T operator*() && { return std::move(*this).value(); }
    const T* operator->() const { return &value(); }
    T* operator->() { return &value(); }

    const Error& error() const& {
        require_error();
        return std::get<1>(state_);
    }
    Error error() && {
        require_error();
        return std::get<1>(std::move(state_));
    }

private:
    void require_value() const {
        if (!ok()) throw std::logic_error("Result: value() of an error: " + std::get<1>(state_).message);
    }
    void require_error() const {
        if (ok()) throw std::logic_error("Result: error() of a value");
    }
    std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
public:
    using value_type = void;
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

    bool ok() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const Error& error() const& {
        require_error();
        return *error_;
    }
    Error error() && {
        require_error();
        return *std::move(error_);
    }

private:
    void require_error() const {
        if (ok()) throw std::logic_error("Result: error() of a success");
    }
    std::optional<Error> error_;
};

}  // namespace cardionode
