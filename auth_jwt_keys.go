package chathub

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// knownMethods are the algorithms that JWT.Methods may name. The parser knows
// "none" too.
var knownMethods = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
	"ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}

// pinnedMethod returns the one method that a JWT.Key of this type is used with.
func pinnedMethod(key any) (string, error) {
	methods, err := keyMethods(key)
	if err != nil {
		return "", err
	}
	switch methods[0] {
	case "HS256", "RS256", "ES256", "EdDSA":
		return methods[0], nil
	}
	return "", fmt.Errorf("is for %s, which only a Keyfunc with Methods can use", methods[0])
}

// fittingKeys returns the keys of a Keyfunc that may be used with the method.
func fittingKeys(key any, method string) (jwt.VerificationKeySet, error) {
	keys, ok := key.(jwt.VerificationKeySet)
	if !ok {
		keys.Keys = []jwt.VerificationKey{key}
	}
	var fitting jwt.VerificationKeySet
	var errs []error
	for _, k := range keys.Keys {
		methods, err := keyMethods(k)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("a key %w", err))
		case slices.Contains(methods, method):
			fitting.Keys = append(fitting.Keys, k)
		}
	}
	if len(fitting.Keys) == 0 {
		errs = append(errs, fmt.Errorf("no key for %s", method))
		return fitting, errors.Join(errs...)
	}
	return fitting, nil
}

// keyMethods returns the methods that a key can verify, or what is wrong with
// the key. A secret must be as long as the hash (RFC 7518 section 3.2). An RSA
// key must have 2048 bits (section 3.3). The curve of an ECDSA key decides its
// method (section 3.4).
func keyMethods(key any) ([]string, error) {
	switch k := key.(type) {
	case []byte:
		switch {
		case isEncodedKey(k):
			return nil, errors.New("is an encoded key: parse it, for example with jwt.ParseRSAPublicKeyFromPEM (if a public key were the secret, anyone could sign)")
		case len(k) < 32:
			return nil, fmt.Errorf("is a secret of %d bytes: it must have at least 32 random ones", len(k))
		case len(k) < 48:
			return []string{"HS256"}, nil
		case len(k) < 64:
			return []string{"HS256", "HS384"}, nil
		}
		return []string{"HS256", "HS384", "HS512"}, nil
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			return nil, errors.New("is a nil RSA key")
		}
		if n := k.N.BitLen(); n < 2048 {
			return nil, fmt.Errorf("is an RSA key of %d bits: it must have at least 2048", n)
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		switch {
		case k == nil || k.Curve == nil:
			return nil, errors.New("is a nil ECDSA key")
		case k.Curve == elliptic.P256():
			return []string{"ES256"}, nil
		case k.Curve == elliptic.P384():
			return []string{"ES384"}, nil
		case k.Curve == elliptic.P521():
			return []string{"ES512"}, nil
		}
		return nil, errors.New("is an ECDSA key on a curve that has no method")
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("is an Ed25519 key of %d bytes: it must have %d", len(k), ed25519.PublicKeySize)
		}
		return []string{"EdDSA"}, nil
	case crypto.Signer:
		return nil, fmt.Errorf("is a private key (%T): give its public half, which is enough for verifying", key)
	case string:
		return nil, errors.New("is a string: a secret must be []byte, a public key parsed")
	}
	return nil, fmt.Errorf("is of type %T: it must be []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey", key)
}

// isEncodedKey reports whether a secret is another key in encoded form: PEM,
// JWK, or a public key in DER.
func isEncodedKey(secret []byte) bool {
	if bytes.Contains(secret, []byte("-----BEGIN ")) || bytes.Contains(secret, []byte(`"kty"`)) {
		return true
	}
	if _, err := x509.ParsePKIXPublicKey(secret); err == nil {
		return true
	}
	_, err := x509.ParsePKCS1PublicKey(secret)
	return err == nil
}
