// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command kogge-cni is the CNI plugin that containerd starts for each pod. It carries the verb, the environment and the
// network configuration to the node's socket and prints the answer: the node process is the only one that allocates
// addresses, writes nftables and keeps the ledger. It answers VERSION itself, so that a runtime may probe it early.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxInput bounds the network configuration and the answer, in bytes.
const maxInput = 4 << 20

// Error codes of the CNI specification, section 5.
const (
	codeInvalidEnvironment = 4
	codeIO                 = 5
	codeDecode             = 6
	codeInvalidConfig      = 7
	codeTryAgain           = 11
	codeNotAvailable       = 50
)

// cniVersions are the versions of the specification whose results the node can write.
var cniVersions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// request is what the node's socket reads: one JSON object, then end of file. package cni of the product holds the
// other side and the meaning of the fields.
type request struct {
	Command     string          `json:"command"`
	ContainerID string          `json:"containerID,omitempty"`
	Netns       string          `json:"netns,omitempty"`
	IfName      string          `json:"ifName,omitempty"`
	Args        string          `json:"args,omitempty"`
	Path        string          `json:"path,omitempty"`
	Config      json.RawMessage `json:"config"`
}

// response is the node's answer: exactly one of Result (may be empty) and Error.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *failure        `json:"error,omitempty"`
}

// failure is an error in the form of the CNI specification.
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

func main() {
	out, fail := run()
	if fail != nil {
		if fail.CNIVersion == "" {
			fail.CNIVersion = cniVersions[len(cniVersions)-1]
		}
		out, _ = json.Marshal(fail)
	}
	if len(out) > 0 {
		_, _ = os.Stdout.Write(append(out, '\n'))
	}
	if fail != nil {
		os.Exit(1)
	}
}

// run answers one invocation.
func run() ([]byte, *failure) {
	command := os.Getenv("CNI_COMMAND")
	if command == "" {
		return nil, &failure{
			Code: codeInvalidEnvironment, Msg: "CNI_COMMAND is not set",
			Details: "kogge-cni is started by a container runtime, not by hand",
		}
	}
	config, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput))
	if err != nil {
		return nil, &failure{Code: codeIO, Msg: "read network configuration: " + err.Error()}
	}
	var known struct {
		CNIVersion string `json:"cniVersion"`
		Socket     string `json:"socket"`
	}
	if err := json.Unmarshal(config, &known); err != nil && command != "VERSION" {
		return nil, &failure{Code: codeDecode, Msg: "decode network configuration: " + err.Error()}
	}
	if command == "VERSION" {
		return version(known.CNIVersion), nil
	}
	if known.Socket == "" {
		return nil, &failure{
			CNIVersion: known.CNIVersion, Code: codeInvalidConfig,
			Msg: `network configuration names no "socket"`,
		}
	}
	answer, err := ask(known.Socket, request{
		Command: command, ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"),
		IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"), Path: os.Getenv("CNI_PATH"), Config: config,
	})
	if err != nil {
		code := codeTryAgain
		if command == "STATUS" {
			code = codeNotAvailable
		}
		return nil, &failure{CNIVersion: known.CNIVersion, Code: code, Msg: "kogge node is not answering", Details: err.Error()}
	}
	if answer.Error != nil {
		answer.Error.CNIVersion = known.CNIVersion
		return nil, answer.Error
	}
	return answer.Result, nil
}

// version writes the answer to VERSION, in the version that was asked for.
func version(asked string) []byte {
	if asked == "" {
		asked = cniVersions[len(cniVersions)-1]
	}
	out, _ := json.Marshal(map[string]any{"cniVersion": asked, "supportedVersions": cniVersions})
	return out
}

// ask sends r to the unix socket at path and reads the answer to its end. It uses the system calls directly because
// package net would double the size of a program that starts twice per pod.
func ask(path string, r request) (*response, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, errors.Join(fmt.Errorf("connect %s: %w", path, err), syscall.Close(fd))
	}
	conn := os.NewFile(uintptr(fd), path)
	defer conn.Close()
	if _, err := conn.Write(body); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	if err := syscall.Shutdown(fd, syscall.SHUT_WR); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	data, err := io.ReadAll(io.LimitReader(conn, maxInput))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	answer := &response{}
	if err := json.Unmarshal(data, answer); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return answer, nil
}
