#include "models/weights/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>

namespace cardionode {
namespace {

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kSize = "torch.Size";
constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils._rebuild_parameter";
constexpr std::array<std::string_view, 10> kStorages = {
    "torch.FloatStorage", "torch.HalfStorage",  "torch.BFloat16Storage", "torch.DoubleStorage", "torch.LongStorage",
    "torch.IntStorage",   "torch.ShortStorage", "torch.CharStorage",     "torch.ByteStorage",   "torch.BoolStorage"};

bool is_storage_type(std::string_view name) {
    return std::find(kStorages.begin(), kStorages.end(), name) != kStorages.end();
}

/// Fit for a log: short, printable.
std::string shown(std::string_view name) {
    std::string text(name.substr(0, 120));
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c > 0x7e; }, '?');
    return text;
}

class Machine {
public:
    Machine(std::string_view bytes, const PickleLimits& limits) : bytes_(bytes), limits_(limits) {}

    Result<Pickle> run() {
        while (!stopped_) {
            if (at_ >= bytes_.size()) return damaged("it ends in the middle");
            const auto instruction = static_cast<unsigned char>(bytes_[at_++]);
            if (!step(instruction)) return config_error(problem_);
        }
        if (stack_.size() != 1 || !marks_.empty()) return damaged("it does not leave one value");
        return Pickle{std::move(values_), stack_.back(), at_};
    }

private:
    static Error damaged(const std::string& what) {
        return config_error("the checkpoint's pickle is damaged: " + what);
    }
    bool fail(const std::string& what) {
        problem_ = "the checkpoint's pickle is damaged: " + what;
        return false;
    }
    bool refuse(std::string message) {
        problem_ = std::move(message);
        return false;
    }

    /// Takes `count` bytes; the caller stops where false comes back.
    bool take(std::uint64_t count, std::string_view& out) {
        if (count > bytes_.size() - at_) return fail("it ends in the middle");
        out = bytes_.substr(at_, count);
        at_ += count;
        return true;
    }
    bool take_number(int width, std::uint64_t& out) {
        std::string_view raw;
        if (!take(static_cast<std::uint64_t>(width), raw)) return false;
        out = 0;
        for (int i = 0; i < width; ++i) out |= std::uint64_t{static_cast<unsigned char>(raw[i])} << (8 * i);
        return true;
    }
    bool take_line(std::string_view& out) {
        const std::size_t end = bytes_.find('\n', at_);
        if (end == std::string_view::npos) return fail("a name has no end");
        out = bytes_.substr(at_, end - at_);
        at_ = end + 1;
        return true;
    }

    bool push(PickleValue value) {
        if (values_.size() >= limits_.values) return refuse("the checkpoint's pickle holds too many values");
        values_.push_back(std::move(value));
        stack_.push_back(static_cast<PickleIndex>(values_.size() - 1));
        return true;
    }
    bool push_integer(PickleKind kind, std::int64_t integer) { return push({kind, integer, {}, {}}); }

    /// Values above the last mark are instructions' only operands until it is gone.
    std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
    bool pop(PickleIndex& out) {
        if (available() == 0) return fail("an operand is missing");
        out = stack_.back();
        stack_.pop_back();
        return true;
    }
    bool pop_to_mark(std::vector<PickleIndex>& out) {
        if (marks_.empty()) return fail("a mark is missing");
        out.assign(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return true;
    }
    bool push_tuple(std::size_t count) {
        if (available() < count) return fail("an operand is missing");
        std::vector<PickleIndex> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
        stack_.resize(stack_.size() - count);
        return push({PickleKind::Tuple, 0, {}, std::move(items)});
    }
    bool extend(PickleKind kind, const std::vector<PickleIndex>& items) {
        if (available() == 0 || values_[stack_.back()].kind != kind) return fail("items for what is no container");
        if (kind == PickleKind::Dict && items.size() % 2 != 0) return fail("a key without a value");
        auto& target = values_[stack_.back()].items;
        target.insert(target.end(), items.begin(), items.end());
        return true;
    }
    bool put(std::uint64_t slot) {
        if (available() == 0) return fail("nothing to remember");
        if (memo_.size() >= limits_.values) return refuse("the checkpoint's pickle remembers too many values");
        memo_[slot] = stack_.back();
        return true;
    }
    bool get(std::uint64_t slot) {
        const auto found = memo_.find(slot);
        if (found == memo_.end()) return fail("it recalls what it never remembered");
        stack_.push_back(found->second);
        return true;
    }

    bool text(int width) {
        std::uint64_t length = 0;
        std::string_view raw;
        return take_number(width, length) && take(length, raw) && push({PickleKind::Text, 0, std::string(raw), {}});
    }
    bool long_integer() {
        std::uint64_t length = 0;
        std::string_view raw;
        if (!take_number(1, length) || !take(length, raw)) return false;
        if (length > 8) return push({PickleKind::Long, 0, std::string(raw), {}});
        std::uint64_t bits = 0;
        for (std::size_t i = 0; i < length; ++i) bits |= std::uint64_t{static_cast<unsigned char>(raw[i])} << (8 * i);
        if (length > 0 && length < 8 && (raw.back() & 0x80) != 0) bits |= ~std::uint64_t{0} << (8 * length);
        return push_integer(PickleKind::Int, std::bit_cast<std::int64_t>(bits));
    }

    bool global(std::string_view module, std::string_view name) {
        std::string full = std::string(module) + "." + std::string(name);
        if (full != kOrderedDict && full != kSize && full != kTensor && full != kParameter && !is_storage_type(full)) {
            return refuse("the checkpoint asks for the Python function " + shown(full) +
                          ", which is never run; only tensors in dicts and lists are read, so save the model's "
                          "state_dict() alone");
        }
        return push({PickleKind::Global, 0, std::move(full), {}});
    }
    bool stack_global() {
        PickleIndex name = 0, module = 0;
        if (!pop(name) || !pop(module)) return false;
        if (values_[name].kind != PickleKind::Text || values_[module].kind != PickleKind::Text) {
            return fail("a name is no text");
        }
        return global(std::string(values_[module].text), std::string(values_[name].text));
    }

    bool is(PickleIndex index, PickleKind kind) const { return values_[index].kind == kind; }
    bool is_integers(PickleIndex index) const {
        const auto& items = values_[index].items;
        return is(index, PickleKind::Tuple) &&
               std::all_of(items.begin(), items.end(), [this](PickleIndex i) { return is(i, PickleKind::Int); });
    }

    bool persistent() {
        PickleIndex top = 0;
        if (!pop(top)) return false;
        // ('storage', type, key, device, elements), in the old form with a last item for a view of a storage
        const std::vector<PickleIndex> id = values_[top].items;
        if (!is(top, PickleKind::Tuple) || id.size() < 5 || id.size() > 6 || !is(id[0], PickleKind::Text) ||
            values_[id[0]].text != "storage" || !is(id[1], PickleKind::Global) ||
            !is_storage_type(values_[id[1]].text) || !is(id[2], PickleKind::Text) || !is(id[4], PickleKind::Int)) {
            return fail("a storage is not described as torch does it");
        }
        if (id.size() == 6 && !is(id[5], PickleKind::None)) {
            return refuse("the checkpoint holds views of storages as PyTorch before 0.4 wrote them; save it anew");
        }
        return push({PickleKind::Storage, values_[id[4]].integer, std::string(values_[id[2]].text), {id[1]}});
    }

    bool reduce() {
        PickleIndex arguments = 0, callee = 0;
        if (!pop(arguments) || !pop(callee)) return false;
        if (!is(arguments, PickleKind::Tuple) || !is(callee, PickleKind::Global)) {
            return fail("a call of what is no function");
        }
        const std::vector<PickleIndex> given = values_[arguments].items;
        const std::string& name = values_[callee].text;
        if (name == kOrderedDict && given.empty()) return push({PickleKind::Dict, 0, {}, {}});
        if (name == kSize && given.size() == 1 && is_integers(given[0])) {
            stack_.push_back(given[0]);
            return true;
        }
        // (data, requires_grad, hooks): for us a parameter is its tensor
        if (name == kParameter && given.size() == 3 && is(given[0], PickleKind::Tensor)) {
            stack_.push_back(given[0]);
            return true;
        }
        // (storage, offset, shape, strides, requires_grad, hooks[, metadata])
        if (name == kTensor && (given.size() == 6 || given.size() == 7) && is(given[0], PickleKind::Storage) &&
            is(given[1], PickleKind::Int) && is_integers(given[2]) && is_integers(given[3])) {
            return push({PickleKind::Tensor, values_[given[1]].integer, {}, {given[0], given[2], given[3]}});
        }
        return fail("wrong arguments for " + name);
    }

    /// The attributes of an OrderedDict (a state_dict's _metadata) hold versions of layers; nothing reads them.
    bool build() {
        PickleIndex state = 0;
        if (!pop(state)) return false;
        if (available() == 0 || !is(stack_.back(), PickleKind::Dict) || !is(state, PickleKind::Dict)) {
            return refuse("the checkpoint sets attributes of a Python object, which is not read");
        }
        return true;
    }

    bool step(unsigned char instruction) {
        std::uint64_t number = 0;
        std::string_view raw, name;
        std::vector<PickleIndex> items(1);
        switch (instruction) {
            case 0x80:  // PROTO
                if (!take_number(1, number)) return false;
                return (number >= 2 && number <= 5) ||
                       refuse("the checkpoint's pickle protocol " + std::to_string(number) + " is none of 2 to 5");
            case 0x95: return take_number(8, number);  // FRAME: a hint for buffering
            case '.': stopped_ = true; return true;
            case '(': marks_.push_back(stack_.size()); return true;
            case 'N': return push({});
            case 0x88: return push_integer(PickleKind::Bool, 1);
            case 0x89: return push_integer(PickleKind::Bool, 0);
            case 'K': return take_number(1, number) && push_integer(PickleKind::Int, static_cast<int>(number));
            case 'M': return take_number(2, number) && push_integer(PickleKind::Int, static_cast<int>(number));
            case 'J':
                return take_number(4, number) &&
                       push_integer(PickleKind::Int, static_cast<std::int32_t>(static_cast<std::uint32_t>(number)));
            case 0x8a: return long_integer();
            case 'G': return take(8, raw) && push({PickleKind::Float, 0, {}, {}});  // its value is of no use
            case 0x8c: return text(1);
            case 'X': return text(4);
            case 0x8d: return text(8);
            case '}': return push({PickleKind::Dict, 0, {}, {}});
            case ']': return push({PickleKind::List, 0, {}, {}});
            case ')': return push_tuple(0);
            case 0x85: return push_tuple(1);
            case 0x86: return push_tuple(2);
            case 0x87: return push_tuple(3);
            case 't': return pop_to_mark(items) && push({PickleKind::Tuple, 0, {}, std::move(items)});
            case 'a': return pop(items[0]) && extend(PickleKind::List, items);
            case 'e': return pop_to_mark(items) && extend(PickleKind::List, items);
            case 's': items.resize(2); return pop(items[1]) && pop(items[0]) && extend(PickleKind::Dict, items);
            case 'u': return pop_to_mark(items) && extend(PickleKind::Dict, items);
            case 'q': return take_number(1, number) && put(number);
            case 'r': return take_number(4, number) && put(number);
            case 0x94: return put(memo_.size());
            case 'h': return take_number(1, number) && get(number);
            case 'j': return take_number(4, number) && get(number);
            case 'c': return take_line(raw) && take_line(name) && global(raw, name);
            case 0x93: return stack_global();
            case 'Q': return persistent();
            case 'R': return reduce();
            case 'b': return build();
            default:
                return refuse("the checkpoint's pickle holds instruction " + std::to_string(instruction) +
                              ", which torch does not write for tensors; it is not run");
        }
    }

    std::string_view bytes_;
    const PickleLimits& limits_;
    std::size_t at_ = 0;
    bool stopped_ = false;
    std::string problem_;
    std::vector<PickleValue> values_;
    std::vector<PickleIndex> stack_;
    std::vector<std::size_t> marks_;
    std::unordered_map<std::uint64_t, PickleIndex> memo_;
};

}  // namespace

Result<Pickle> read_pickle(std::string_view bytes, const PickleLimits& limits) { return Machine(bytes, limits).run(); }

}  // namespace cardionode
