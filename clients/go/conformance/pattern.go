package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

type object = map[string]any

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// substitute fills the variables of the table in.
func substitute(value any, variables object) (any, error) {
	switch value := value.(type) {
	case object:
		filled := object{}
		for key, item := range value {
			var err error
			if filled[key], err = substitute(item, variables); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case []any:
		filled := make([]any, len(value))
		for index, item := range value {
			var err error
			if filled[index], err = substitute(item, variables); err != nil {
				return nil, err
			}
		}
		return filled, nil
	case string:
		return substituteText(value, variables)
	}
	return value, nil
}

func substituteText(text string, variables object) (any, error) {
	var missing error
	lookup := func(reference string) any {
		found, ok := variables[reference[2:len(reference)-1]]
		if !ok {
			missing = fmt.Errorf("there is no variable %s", reference)
		}
		return found
	}
	if variable.FindString(text) == text && text != "" {
		return lookup(text), missing
	}
	return variable.ReplaceAllStringFunc(text, func(reference string) string {
		return fmt.Sprint(lookup(reference))
	}), missing
}

// at returns what is at a dotted path.
func at(document any, path string) (any, error) {
	if path == "" {
		return document, nil
	}
	for _, part := range strings.Split(path, ".") {
		switch inside := document.(type) {
		case object:
			found, ok := inside[part]
			if !ok {
				return nil, fmt.Errorf("nothing is at %s to save", path)
			}
			document = found
		case []any:
			index, err := strconv.Atoi(part)
			if err != nil || index < 0 || index >= len(inside) {
				return nil, fmt.Errorf("nothing is at %s to save", path)
			}
			document = inside[index]
		default:
			return nil, fmt.Errorf("nothing is at %s to save", path)
		}
	}
	return document, nil
}

// match says where and why a pattern does not match; an absent value is nil.
func match(pattern, actual any, where string) error {
	switch pattern := pattern.(type) {
	case nil:
		if actual != nil {
			return fmt.Errorf("%s is %s, not null", where, short(actual))
		}
	case object:
		inside, ok := actual.(object)
		if !ok && actual != nil {
			return fmt.Errorf("%s is %s, not an object", where, short(actual))
		}
		for key, item := range pattern {
			if err := match(item, inside[key], where+"."+key); err != nil {
				return err
			}
		}
	case []any:
		inside, ok := actual.([]any)
		if !ok && actual != nil || len(inside) != len(pattern) {
			return fmt.Errorf("%s is %s, not a list of %d", where, short(actual), len(pattern))
		}
		for index, item := range pattern {
			if err := match(item, inside[index], fmt.Sprintf("%s.%d", where, index)); err != nil {
				return err
			}
		}
	default:
		if pattern == "*" && !empty(actual) || pattern != "*" && equal(pattern, actual) {
			return nil
		}
		return fmt.Errorf("%s is %s, not %s", where, short(actual), short(pattern))
	}
	return nil
}

func empty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == "" || value == "0"
	case float64:
		return value == 0
	case bool:
		return !value
	case []any:
		return len(value) == 0
	case object:
		return len(value) == 0
	}
	return false
}

func equal(pattern, actual any) bool {
	switch pattern := pattern.(type) {
	case float64:
		switch actual := actual.(type) {
		case nil:
			return pattern == 0
		case float64:
			return pattern == actual
		case string:
			number, err := strconv.ParseFloat(actual, 64)
			return err == nil && number == pattern
		}
		return false
	case string:
		return actual == pattern || actual == nil && pattern == ""
	case bool:
		return actual == pattern || actual == nil && !pattern
	}
	return false
}

func short(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text[:min(len(text), 200)])
}
