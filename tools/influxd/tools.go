//go:build tools

// Package influxd pins the modules from which tools/build_influxd.sh builds the server of our tests.
package influxd

import _ "github.com/influxdata/influxdb/v2/cmd/influxd"
