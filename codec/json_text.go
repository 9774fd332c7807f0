// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import "unicode/utf8"

// plainByte tells the bytes that JSON has in strings as they are: ASCII but for what ends, escapes or controls, and what HTML would take
// for its own.
var plainByte = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return plain
}()

const hexDigits = "0123456789abcdef"

// appendString appends a string as encoding/json writes it.
func appendString(to []byte, s string) []byte {
	i := 0
	for i < len(s) && plainByte[s[i]] {
		i++
	}
	to = append(to, '"')
	if i == len(s) {
		return append(append(to, s...), '"')
	}
	from := 0
	for i < len(s) {
		c := s[i]
		if plainByte[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			to = appendEscaped(append(to, s[from:i]...), c)
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			to = append(append(to, s[from:i]...), `\ufffd`...)
		case r == '\u2028' || r == '\u2029': // Ends of lines to JavaScript.
			to = append(append(to, s[from:i]...), `\u202`...)
			to = append(to, hexDigits[r&0xf])
		default:
			i += size
			continue
		}
		i += size
		from = i
	}
	return append(append(to, s[from:]...), '"')
}

func appendEscaped(to []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(to, '\\', c)
	case '\b':
		return append(to, `\b`...)
	case '\f':
		return append(to, `\f`...)
	case '\n':
		return append(to, `\n`...)
	case '\r':
		return append(to, `\r`...)
	case '\t':
		return append(to, `\t`...)
	default:
		return append(to, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
	}
}

// plainDepth bounds the nesting that isPlain follows.
const plainDepth = 100

// isPlain reports whether data is one JSON value that encoding/json would leave as it is: without spaces, and with nothing in it that it
// escapes for HTML. It may take plain data for other, never the other way round.
func isPlain(data []byte) bool { return plainValue(data, 0, plainDepth) == len(data) && len(data) > 0 }

// bad is returned by the plain functions where data is not plain; they return the place behind what they have read otherwise.
const bad = -1

func plainValue(data []byte, i, depth int) int {
	if i >= len(data) || depth == 0 {
		return bad
	}
	switch data[i] {
	case '"':
		return plainString(data, i)
	case '{':
		return plainList(data, i+1, depth-1, '}')
	case '[':
		return plainList(data, i+1, depth-1, ']')
	case 't':
		return plainWord(data, i, "true")
	case 'f':
		return plainWord(data, i, "false")
	case 'n':
		return plainWord(data, i, "null")
	default:
		return plainNumber(data, i)
	}
}

func plainWord(data []byte, i int, word string) int {
	if len(data)-i < len(word) || string(data[i:i+len(word)]) != word {
		return bad
	}
	return i + len(word)
}

// plainList reads the members of an object, or the elements of an array, up to its end.
func plainList(data []byte, i, depth int, end byte) int {
	if i < len(data) && data[i] == end {
		return i + 1
	}
	for {
		if end == '}' {
			if i >= len(data) || data[i] != '"' {
				return bad
			}
			if i = plainString(data, i); i == bad || i >= len(data) || data[i] != ':' {
				return bad
			}
			i++
		}
		if i = plainValue(data, i, depth); i == bad || i >= len(data) {
			return bad
		}
		switch data[i] {
		case ',':
			i++
		case end:
			return i + 1
		default:
			return bad
		}
	}
}

// plainString reads a string from its first quote on.
func plainString(data []byte, i int) int {
	for i++; i < len(data); i++ {
		c := data[i]
		switch {
		case plainByte[c]:
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i >= len(data) {
				return bad
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(data)-i < 5 || !isHex(data[i+1]) || !isHex(data[i+2]) || !isHex(data[i+3]) || !isHex(data[i+4]) {
					return bad
				}
				i += 4
			default:
				return bad
			}
		case c < utf8.RuneSelf || c == 0xe2: // 0xe2 begins the two that are escaped, among others.
			return bad
		}
	}
	return bad
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func plainNumber(data []byte, i int) int {
	if data[i] == '-' {
		i++
	}
	begun := i
	if i = digits(data, i); i == begun || data[begun] == '0' && i > begun+1 {
		return bad
	}
	if i < len(data) && data[i] == '.' {
		begun = i + 1
		if i = digits(data, begun); i == begun {
			return bad
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		begun = i
		if i = digits(data, i); i == begun {
			return bad
		}
	}
	return i
}

func digits(data []byte, i int) int {
	for i < len(data) && '0' <= data[i] && data[i] <= '9' {
		i++
	}
	return i
}
