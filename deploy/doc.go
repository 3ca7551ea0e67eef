// Package deploy tests the files of this directory: units of systemd, manifests
// of Kubernetes, an image, alert rules and a dashboard. Its README says what is
// here, and what could not be tried. The proxies are tested in integration. It
// is a module of its own, so that the types of Kubernetes are nobody else's
// dependency.
package deploy
