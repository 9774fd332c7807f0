// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// The query parameters of subresources whose bodies are streams. The texts say what a parameter does in our words.
var (
	container = parameter("query", "container", "string", "The container that is meant; the pod's only one, or its default, if it is left out.")
	streams   = []object{
		container,
		parameter("query", "stderr", "boolean", "Send standard error."),
		parameter("query", "stdin", "boolean", "Take standard input."),
		parameter("query", "stdout", "boolean", "Send standard output."),
		parameter("query", "tty", "boolean", "Make a terminal."),
	}
	proxyPath      = parameter("query", "path", "string", "Path of the URL to ask for behind the proxy.")
	connectOptions = map[string][]object{
		"attach":      streams,
		"exec":        append(slices.Clone(streams), parameter("query", "command", "string", "The command and its arguments, one in each such parameter.")),
		"portforward": {parameter("query", "ports", "integer", "Ports to forward, one in each such parameter.")},
		"proxy":       {proxyPath},
	}
	logOptions = []object{
		container,
		parameter("query", "follow", "boolean", "Send what is written from now on, too."),
		parameter("query", "insecureSkipTLSVerifyBackend", "boolean", "Don't verify the certificate of the kubelet."),
		parameter("query", "limitBytes", "integer", "The most bytes to send."),
		pretty,
		parameter("query", "previous", "boolean", "The log of the container before its last restart."),
		parameter("query", "sinceSeconds", "integer", "Leave out what is older."),
		parameter("query", "stream", "string", "All, Stdout or Stderr; the default is All."),
		parameter("query", "tailLines", "integer", "Begin with so many lines before the end."),
		parameter("query", "timestamps", "boolean", "Put its time before each line."),
	}
)

// connectMethods are the methods of the verbs that connect.
var connectMethods = map[string]string{"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}

// addStream adds the paths of a subresource whose bodies are streams. params are those of the object.
func (b *builder) addStream(sub *kinds.Subresource, gvk schema.GroupVersionKind, at string, params []object, suffix string) {
	if sub.Name == "log" {
		b.doc.Paths[at] = object{"get": b.logOperation(gvk, suffix), "parameters": slices.Concat(params, logOptions)}
		return
	}
	params = slices.Concat(params, connectOptions[sub.Name])
	b.doc.Paths[at] = b.connectItem(sub, gvk, params, suffix)
	if sub.Name == "proxy" {
		params = append(params, parameter("path", "path", "string", "path to ask for behind the proxy"))
		b.doc.Paths[at+"/{path}"] = b.connectItem(sub, gvk, params, suffix+"WithPath")
	}
}

// logOperation reads a log: text, whatever is asked for.
func (b *builder) logOperation(gvk schema.GroupVersionKind, suffix string) object {
	op := b.operation(operation{action: "get", id: "read" + suffix, text: "read the log of a container", codes: []string{"200"}}, gvk)
	text := object{}
	for _, media := range append(slices.Clone(readMedia), "text/plain") {
		text[media] = object{"schema": object{"type": "string"}}
	}
	op["responses"].(object)["200"] = object{"description": "OK", "content": text}
	return op
}

// connectItem has an operation for each method. What is proxied may also be asked by methods that are no verbs.
func (b *builder) connectItem(sub *kinds.Subresource, gvk schema.GroupVersionKind, params []object, suffix string) object {
	item := object{"parameters": params}
	add := func(method string) {
		op := b.operation(operation{
			action: "connect", id: "connect" + strings.Replace(suffix, idPart(b.group), idPart(b.group)+title(method), 1),
			text: "connect " + strings.ToUpper(method) + " requests to " + sub.Name + " of " + gvk.Kind, codes: []string{"200"},
		}, gvk)
		op["responses"].(object)["200"] = object{"description": "OK", "content": object{"*/*": object{"schema": object{"type": "string"}}}}
		item[method] = op
	}
	for _, verb := range sub.Verbs {
		if method := connectMethods[verb]; method != "" {
			add(method)
		}
	}
	if sub.Name == "proxy" {
		add("head")
		add("options")
	}
	return item
}
