// Reads a JSON list of objects and writes the list of what kstatus makes of each. The library is the one that Flux,
// Argo's health checks and kpt lean on; the tests hold their own reading of its rules against it.
package main

import (
	"encoding/json"
	"log"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		log.Fatalf("reading the objects: %v", err)
	}
	verdicts := make([]string, 0, len(objects))
	for _, raw := range objects {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			log.Fatalf("%s: %v", raw, err)
		}
		result, err := status.Compute(object)
		if err != nil {
			log.Fatalf("%s: %v", raw, err)
		}
		verdicts = append(verdicts, result.Status.String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(verdicts); err != nil {
		log.Fatalf("writing the verdicts: %v", err)
	}
}
