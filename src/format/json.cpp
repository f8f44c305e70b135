/*
 * json.cpp
 *		Finding the values of wanted paths in a JSON object, by simdjson On-Demand.
 *
 * One pass over the object's fields.  The wanted paths are a trie; a field that is not in it
 * is stepped over.  Values are handed out as slices of the padded copy of the message that
 * simdjson needs, so nothing is materialized here, and only the last of several fields of
 * the same name is ever converted by the caller.
 *
 * What is noticed anywhere in the message: invalid UTF-8, strings without an end, control
 * characters in strings, fewer closing than opening brackets, a message that is cut off,
 * anything after the object.  In objects on a wanted path also: keys that are no strings,
 * missing or superfluous commas and colons.  What is not noticed: anything else in fields
 * that nobody wants: misspelt literals and numbers, invalid escapes, missing commas in and
 * mismatched brackets around nested values.  That is meant: a field that nobody reads
 * cannot be an error.
 *
 * The code is compiled for the plain instruction set, so it leaves to simdjson only what
 * that library dispatches at run time (UTF-8 validation and the structural index) and the
 * walk over the index.
 *
 * Memory: a parser keeps a buffer and an index for the largest message so far, about seven
 * times its size, and gives them back when messages have become much smaller.
 */
#ifndef NDEBUG
#define NDEBUG
#endif
#define SIMDJSON_DEVELOPMENT_CHECKS 0
#include <simdjson.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "json_parser.h"

namespace ondemand = simdjson::ondemand;

namespace
{

constexpr size_t minimum_capacity = 4096;

/* above this, memory that a smaller message does not need is given back */
constexpr size_t keep_capacity = 4 * 1024 * 1024;

/*
 * First and last eight bytes of a key and its length: what is compared before the key itself.
 * May read up to seven bytes beyond a short key.
 */
struct Fingerprint
{
	uint64_t	head;
	uint64_t	tail;

	Fingerprint(const char *key, size_t len)
	{
		std::memcpy(&head, key, 8);
		if (len < 8)
		{
			char		padded[8] = {0};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
			head &= (uint64_t(1) << (8 * len)) - 1;
			(void) padded;
#else
			std::memcpy(padded, key, len);
			std::memcpy(&head, padded, 8);
#endif
			tail = len;
		}
		else
		{
			std::memcpy(&tail, key + len - 8, 8);
			tail += len;
		}
	}

	bool operator==(const Fingerprint &other) const
	{
		return head == other.head && tail == other.tail;
	}

	size_t hash() const
	{
		uint64_t	h = (head ^ (tail * 0x9E3779B97F4A7C15ull)) * 0xD6E8FEB86659FD93ull;

		return size_t(h ^ (h >> 32));
	}
};

/* One step of the wanted paths. */
struct Node
{
	struct Child
	{
		std::string name;		/* followed by eight bytes of padding */
		size_t		len;
		Fingerprint fingerprint;
		std::unique_ptr<Node> node;
	};

	std::vector<int> slots;		/* paths that end here */
	std::vector<Child> children;
	std::vector<int> table;		/* hash table of indexes into children, -1: free */

	Node *add(const char *name);
	Node *find(const char *key, size_t len) const;
	void build_table();
	void reset_below(MrJsonValue *values) const;
};

/* the child of that name, made when there is none yet */
Node *
Node::add(const char *name)
{
	size_t		len = std::strlen(name);

	for (Child &child : children)
		if (child.len == len && std::memcmp(child.name.data(), name, len) == 0)
			return child.node.get();

	std::string padded(name, len);

	padded.append(8, '\0');

	Fingerprint fingerprint(padded.data(), len);

	children.push_back(Child{std::move(padded), len, fingerprint, std::make_unique<Node>()});
	return children.back().node.get();
}

void
Node::build_table()
{
	size_t		size = 4;

	while (size < 2 * children.size())
		size *= 2;
	table.assign(size, -1);
	for (size_t i = 0; i < children.size(); i++)
	{
		size_t		at = children[i].fingerprint.hash() & (size - 1);

		while (table[at] >= 0)
			at = (at + 1) & (size - 1);
		table[at] = int(i);
		children[i].node->build_table();
	}
}

/* the child of that (unescaped) name, or NULL; eight bytes after the key can be read */
inline Node *
Node::find(const char *key, size_t len) const
{
	Fingerprint fingerprint(key, len);
	size_t		mask = table.size() - 1;

	for (size_t at = fingerprint.hash() & mask; table[at] >= 0; at = (at + 1) & mask)
	{
		const Child &child = children[size_t(table[at])];

		if (child.fingerprint == fingerprint && child.len == len &&
			(len <= 8 || std::memcmp(child.name.data(), key, len) == 0))
			return child.node.get();
	}
	return nullptr;
}

void
Node::reset_below(MrJsonValue *values) const
{
	for (const Child &child : children)
	{
		for (int slot : child.node->slots)
			values[slot].kind = MR_JSON_MISSING;
		child.node->reset_below(values);
	}
}

inline bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* a token as simdjson gives it reaches to the next one: blanks have to go */
inline std::string_view
trim(std::string_view text)
{
	while (!text.empty() && is_blank(text.back()))
		text.remove_suffix(1);
	return text;
}

/* length of a key that begins here, up to its closing quote; false when it has escapes */
inline bool
plain_key_length(const char *key, size_t *len)
{
	const char *p = key;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	constexpr uint64_t ones = 0x0101010101010101ull;
	constexpr uint64_t highs = 0x8080808080808080ull;

	for (;; p += 8)
	{
		uint64_t	word;

		std::memcpy(&word, p, 8);

		uint64_t	quote = word ^ (ones * '"');
		uint64_t	escape = word ^ (ones * '\\');
		uint64_t	hit = (((quote - ones) & ~quote) | ((escape - ones) & ~escape)) & highs;

		if (hit)
		{
			p += __builtin_ctzll(hit) / 8;
			break;
		}
	}
#else
	while (*p != '"' && *p != '\\')
		p++;
#endif
	*len = size_t(p - key);
	return *p == '"';
}

/* classify a token that is no container */
inline void
set_scalar(MrJsonValue *value, std::string_view token)
{
	value->text = token.data();
	value->len = token.size();
	switch (token.empty() ? '\0' : token.front())
	{
		case '"':
			if (token.size() < 2 || token.back() != '"')
			{
				value->kind = MR_JSON_GARBAGE;
				break;
			}
			value->kind = MR_JSON_STRING;
			value->text++;
			value->len -= 2;
			break;
		case '-':
		case '0': case '1': case '2': case '3': case '4':
		case '5': case '6': case '7': case '8': case '9':
			value->kind = MR_JSON_NUMBER;
			break;
		case 't':
			value->kind = token == "true" ? MR_JSON_TRUE : MR_JSON_GARBAGE;
			break;
		case 'f':
			value->kind = token == "false" ? MR_JSON_FALSE : MR_JSON_GARBAGE;
			break;
		case 'n':
			value->kind = token == "null" ? MR_JSON_NULL : MR_JSON_GARBAGE;
			break;
		default:
			value->kind = MR_JSON_GARBAGE;
			break;
	}
}

simdjson::error_code walk(ondemand::object &object, const Node *node, MrJsonValue *values);

/* a field whose value is an object, and that is on a wanted path */
simdjson::error_code
take_object(ondemand::value value, const Node *node, MrJsonValue *values)
{
	ondemand::object object;

	if (auto error = value.get_object().get(object))
		return error;
	if (!node->slots.empty())
	{
		std::string_view raw;

		if (auto error = object.raw_json().get(raw))
			return error;
		raw = trim(raw);
		for (int slot : node->slots)
			values[slot] = MrJsonValue{MR_JSON_OBJECT, raw.data(), raw.size()};
		if (node->children.empty())
			return simdjson::SUCCESS;

		bool		nonempty;

		if (auto error = object.reset().get(nonempty))
			return error;
	}
	return walk(object, node, values);
}

/* a field that is on a wanted path */
simdjson::error_code
take(ondemand::value value, const Node *node, MrJsonValue *values)
{
	std::string_view token = value.raw_json_token();

	if (!node->children.empty())
		node->reset_below(values);
	if (token.front() == '{')
		return take_object(value, node, values);
	if (node->slots.empty())
		return simdjson::SUCCESS;

	MrJsonValue found;

	if (token.front() == '[')
	{
		ondemand::array array;

		if (auto error = value.get_array().get(array))
			return error;
		if (auto error = array.raw_json().get(token))
			return error;
		token = trim(token);
		found = MrJsonValue{MR_JSON_ARRAY, token.data(), token.size()};
	}
	else
		set_scalar(&found, trim(token));
	for (int slot : node->slots)
		values[slot] = found;
	return simdjson::SUCCESS;
}

/* one pass over the fields of an object */
simdjson::error_code
walk(ondemand::object &object, const Node *node, MrJsonValue *values)
{
	for (auto result : object)
	{
		ondemand::field field;

		if (auto error = std::move(result).get(field))
			return error;

		const char *key = field.key().raw();
		size_t		len;
		const Node *child;

		if (plain_key_length(key, &len))
			child = node->find(key, len);
		else
		{
			std::string_view unescaped;

			if (auto error = field.unescaped_key().get(unescaped))
				return error;
			child = node->find(unescaped.data(), unescaped.size());
		}
		if (child != nullptr)
			if (auto error = take(field.value(), child, values))
				return error;
	}
	return simdjson::SUCCESS;
}

MrJsonStatus
status_of(simdjson::error_code error, const char **reason)
{
	switch (error)
	{
		case simdjson::SUCCESS:
			return MR_JSON_OK;
		case simdjson::MEMALLOC:
			return MR_JSON_NO_MEMORY;
		case simdjson::CAPACITY:
			return MR_JSON_TOO_LARGE;
		case simdjson::UTF8_ERROR:
			return MR_JSON_BAD_ENCODING;
		case simdjson::UNCLOSED_STRING:
			*reason = "a string does not end";
			break;
		case simdjson::UNESCAPED_CHARS:
			*reason = "a control character in a string is not escaped";
			break;
		case simdjson::STRING_ERROR:
			*reason = "a key has an invalid escape sequence";
			break;
		case simdjson::EMPTY:
		case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
			*reason = "the object does not end, or something follows it";
			break;
		default:
			*reason = "a comma, colon, key or bracket is missing or not expected";
			break;
	}
	return MR_JSON_MALFORMED;
}

}								/* namespace */

struct MrJsonParser
{
	Node		root;
	int			nslots = 0;
	std::unique_ptr<ondemand::parser> parser;
	std::unique_ptr<char[]> buffer;
	size_t		capacity = 0;

	simdjson::error_code reserve(size_t len);
	simdjson::error_code find(const char *json, size_t len, MrJsonValue *values,
							  const char **reason);
};

/* have room for a message of that length, and not much more */
simdjson::error_code
MrJsonParser::reserve(size_t len)
{
	if (len <= capacity && (capacity <= keep_capacity || len > capacity / 8))
		return simdjson::SUCCESS;
	if (len > simdjson::SIMDJSON_MAXSIZE_BYTES - 2 * simdjson::SIMDJSON_PADDING)
		return simdjson::CAPACITY;

	size_t		wanted = minimum_capacity;

	if (len <= keep_capacity)
		while (wanted < len)
			wanted *= 2;
	else
		wanted = len;
	capacity = 0;
	buffer.reset();
	parser.reset(new (std::nothrow) ondemand::parser());
	buffer.reset(new (std::nothrow) char[wanted + simdjson::SIMDJSON_PADDING]);
	if (!parser || !buffer)
		return simdjson::MEMALLOC;
	if (auto error = parser->allocate(wanted))
		return error;
	capacity = wanted;
	return simdjson::SUCCESS;
}

simdjson::error_code
MrJsonParser::find(const char *json, size_t len, MrJsonValue *values, const char **reason)
{
	ondemand::document document;
	ondemand::object object;

	if (auto error = reserve(len))
		return error;
	std::memcpy(buffer.get(), json, len);
	std::memset(buffer.get() + len, 0, simdjson::SIMDJSON_PADDING);
	for (int i = 0; i < nslots; i++)
		values[i].kind = MR_JSON_MISSING;

	if (auto error = parser->iterate(buffer.get(), len, len + simdjson::SIMDJSON_PADDING).get(document))
		return error;
	if (auto error = document.get_object().get(object))
		return error;
	if (auto error = walk(object, &root, values))
		return error;
	/* there is a place to be at unless the end was reached */
	if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
	{
		*reason = "something follows the object";
		return simdjson::TRAILING_CONTENT;
	}
	return simdjson::SUCCESS;
}

extern "C" MrJsonParser *
mr_json_parser_create(const MrJsonPath *paths, int npaths)
{
	try
	{
		auto		parser = std::make_unique<MrJsonParser>();

		for (int i = 0; i < npaths; i++)
		{
			Node	   *node = &parser->root;

			for (int j = 0; j < paths[i].nnames; j++)
				node = node->add(paths[i].names[j]);
			node->slots.push_back(i);
		}
		parser->root.build_table();
		parser->nslots = npaths;
		return parser.release();
	}
	catch (...)
	{
		return nullptr;
	}
}

extern "C" void
mr_json_parser_destroy(MrJsonParser *parser)
{
	delete parser;
}

extern "C" MrJsonStatus
mr_json_parser_find(MrJsonParser *parser, const char *json, size_t len,
					MrJsonValue *values, const char **reason)
{
	try
	{
		simdjson::error_code error = parser->find(json, len, values, reason);

		if (error == simdjson::TRAILING_CONTENT)
			return MR_JSON_MALFORMED;
		return status_of(error, reason);
	}
	catch (...)
	{
		return MR_JSON_NO_MEMORY;
	}
}

namespace
{

/*
 * What std::from_chars says of values out of range differed between its versions, so zero and
 * infinity are judged here.
 */
template<typename Float> bool
parse_decimal(const char *text, size_t len, Float *value)
{
	const char *digits = text + (len > 0 && text[0] == '-');
	const char *end = text + len;

	if (digits >= end || *digits < '0' || *digits > '9')
		return false;

	auto		result = std::from_chars(text, end, *value);

	if (result.ec != std::errc() || result.ptr != end || std::isinf(*value))
		return false;
	if (*value == 0)
		for (const char *p = digits; p < end && *p != 'e' && *p != 'E'; p++)
			if (*p >= '1' && *p <= '9')
				return false;
	return true;
}

}								/* namespace */

extern "C" bool
mr_json_parse_double(const char *text, size_t len, double *value)
{
	return parse_decimal(text, len, value);
}

extern "C" bool
mr_json_parse_float(const char *text, size_t len, float *value)
{
	return parse_decimal(text, len, value);
}
