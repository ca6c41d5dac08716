package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/kube"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// createCustomResources creates the definitions in comma-separated files, and waits until they are served.
func (c *cluster) createCustomResources(ctx context.Context, files string) error {
	client, err := apiextensions.NewForConfig(c.config)
	if err != nil {
		return err
	}
	all := client.ApiextensionsV1().CustomResourceDefinitions()
	for _, file := range strings.Split(files, ",") {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &crd); err != nil {
			return err
		}
		if _, err := all.Create(ctx, &crd, metav1.CreateOptions{}); err != nil {
			return err
		}
		if err := await(ctx, time.Minute, crd.Name+" is served", func() error {
			got, err := all.Get(ctx, crd.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, condition := range got.Status.Conditions {
				if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
					return nil
				}
			}
			return errors.New("not yet")
		}); err != nil {
			return err
		}
		say("the custom resource %s is served", crd.Name)
	}
	return nil
}

// refusesBadPod checks that the namespace really refuses a pod.
func (n *namespace) refusesBadPod(ctx context.Context) error {
	if err := n.awaitAccount(ctx); err != nil {
		return err
	}
	bad := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bad"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "bad", Image: "bad"}}},
	}
	_, err := n.client.CoreV1().Pods(n.name).Create(ctx, bad, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted:latest"`) {
		return fmt.Errorf("a pod as root was not refused by the level restricted: %w", err)
	}
	say("a pod without a security context is refused: %v", err)
	return nil
}

// awaitAccount waits for the account that the controllers make in each namespace. Without it the API
// server refuses every pod.
func (n *namespace) awaitAccount(ctx context.Context) error {
	return await(ctx, time.Minute, "the namespace has an account", func() error {
		_, err := n.client.CoreV1().ServiceAccounts(n.name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// createWhatValuesName creates the Secrets and other objects that the sets of values name.
func (n *namespace) createWhatValuesName(ctx context.Context) error {
	if err := n.awaitAccount(ctx); err != nil {
		return err
	}
	keys := filepath.Join(*dir, n.name+"-keys.json")
	if out, err := exec.CommandContext(ctx, filepath.Join(*bin, "sessiond"), "keys", "new", "--out", keys).CombinedOutput(); err != nil {
		return fmt.Errorf("sessiond keys new: %w: %s", err, out)
	}
	data, err := os.ReadFile(keys)
	if err != nil {
		return err
	}
	for _, name := range []string{"sessiond", "sessiond-signing-keys", "id-urls", "id-keys"} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string][]byte{"signing-keys": data}}
		for _, key := range []string{"database-url", "redis-url", "url-of-postgres", "url-of-redis", "url-of-owner", "smtp-url", "password-peppers"} {
			secret.Data[key] = []byte("a secret")
		}
		if _, err := n.client.CoreV1().Secrets(n.name).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "migrations"}}
	if _, err := n.client.CoreV1().ServiceAccounts(n.name).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	if n.name == "identity" {
		class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "identity"}, Value: 1000}
		if _, err := n.client.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	// The certificate authority comes a moment later.
	if err := await(ctx, time.Minute, "the namespace has the certificate authority", func() error {
		_, err := n.client.CoreV1().ConfigMaps(n.name).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	}); err != nil {
		return err
	}
	n.kept = map[string]bool{}
	names, err := n.objects(ctx)
	for _, name := range names {
		n.kept[name] = true
	}
	return err
}

// expectReplicas waits until the Deployment has so many ready replicas with an image that contains a text.
func (n *namespace) expectReplicas(ctx context.Context, want int32, image string) error {
	return await(ctx, time.Minute, fmt.Sprintf("%d replicas of %s are ready", want, image), func() error {
		d, err := n.client.AppsV1().Deployments(n.name).Get(ctx, "sessiond", metav1.GetOptions{})
		if err != nil {
			return err
		}
		got := d.Spec.Template.Spec.Containers[0].Image
		if d.Status.ReadyReplicas != want || d.Status.Replicas != want || !strings.Contains(got, image) {
			return fmt.Errorf("%d of %d replicas of %s are ready", d.Status.ReadyReplicas, d.Status.Replicas, got)
		}
		return nil
	})
}

// watchReplicas returns a function that tells the smallest number of replicas that the Deployment asked
// for since.
func (n *namespace) watchReplicas(ctx context.Context) func() int32 {
	var mu sync.Mutex
	lowest := int32(1 << 30)
	w, err := n.client.AppsV1().Deployments(n.name).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return func() int32 { return -1 }
	}
	go func() {
		for e := range w.ResultChan() {
			if u, ok := e.Object.(interface{ GetName() string }); !ok || u.GetName() != "sessiond" || e.Type == watch.Deleted {
				continue
			}
			data, _ := json.Marshal(e.Object)
			var d struct{ Spec struct{ Replicas int32 } }
			if json.Unmarshal(data, &d) == nil {
				mu.Lock()
				lowest = min(lowest, d.Spec.Replicas)
				mu.Unlock()
			}
		}
	}()
	return func() int32 {
		mu.Lock()
		defer mu.Unlock()
		return lowest
	}
}

// rotatesKeys runs the program of the CronJob with the token of its account. The token must not open any
// other Secret.
func (n *namespace) rotatesKeys(ctx context.Context) error {
	secrets := n.client.CoreV1().Secrets(n.name)
	// The controllers make a pod from the CronJob, too.
	cron, err := n.client.BatchV1().CronJobs(n.name).Get(ctx, "sessiond-rotate-keys", metav1.GetOptions{})
	if err != nil {
		return err
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Name: "rotate-now", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, batchv1.SchemeGroupVersion.WithKind("CronJob"))},
	}, Spec: cron.Spec.JobTemplate.Spec}
	if _, err := n.client.BatchV1().Jobs(n.name).Create(ctx, job, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := await(ctx, time.Minute, "the job of the CronJob has ended", func() error {
		j, err := n.client.BatchV1().Jobs(n.name).Get(ctx, job.Name, metav1.GetOptions{})
		if err == nil && j.Status.Succeeded == 0 {
			err = errors.New("it runs")
		}
		return err
	}); err != nil {
		return err
	}

	account := filepath.Join(*dir, "account")
	if err := os.MkdirAll(account, 0o700); err != nil {
		return err
	}
	token, err := n.client.CoreV1().ServiceAccounts(n.name).CreateToken(ctx, "sessiond-rotate-keys", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(n.authority)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"token": token.Status.Token, "namespace": n.name, "ca.crt": string(authority)} {
		if err := os.WriteFile(filepath.Join(account, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	u, err := url.Parse(n.config.Host)
	if err != nil {
		return err
	}
	rotate := func(secret string) (string, error) {
		args := append(slices.Clone(cron.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args), "--service-account="+account)
		if secret != "" {
			args = append(args, "--kubernetes-secret="+secret)
		}
		cmd := exec.CommandContext(ctx, filepath.Join(*bin, "sessiond"), args...)
		cmd.Env = []string{"KUBERNETES_SERVICE_HOST=" + u.Hostname(), "KUBERNETES_SERVICE_PORT=" + u.Port()}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// age makes all keys older, and returns their statuses.
	age := func(by time.Duration) (string, error) {
		s, err := secrets.Get(ctx, "sessiond-signing-keys", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal(s.Data["signing-keys"], &set); err != nil {
			return "", err
		}
		var statuses []string
		for _, key := range set.Keys {
			at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(key["created_at"]))
			if err != nil {
				return "", err
			}
			key["created_at"] = at.Add(-by)
			statuses = append(statuses, fmt.Sprint(key["status"]))
		}
		if s.Data["signing-keys"], err = json.Marshal(set); err != nil {
			return "", err
		}
		_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
		return strings.Join(statuses, " "), err
	}
	for _, step := range []struct {
		want string // before the step
		by   time.Duration
	}{{"active", 2161 * time.Hour}, {"active published", 7 * time.Minute}, {"retired active", 0}} {
		got, err := age(step.by)
		if err != nil {
			return err
		}
		if got != step.want {
			return fmt.Errorf("the keys are %q, want %q", got, step.want)
		}
		say("the Secret has keys with the status: %s", got)
		if out, err := rotate(""); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	for _, secret := range []string{"sessiond", "missing"} {
		if out, err := rotate(secret); err == nil || !strings.Contains(out, "403 Forbidden") {
			return fmt.Errorf("the account of the CronJob may read the Secret %s: %s", secret, out)
		}
	}
	say("sessiond keys rotate changed the Secret with its account's token, and the API server refused it another Secret")
	return nil
}

// uninstall removes the release, and checks that nothing is left.
func (n *namespace) uninstall(ctx context.Context) error {
	u := action.NewUninstall(n.helm)
	u.Timeout, u.WaitStrategy = waitLimit, kube.StatusWatcherStrategy
	if _, err := u.Run(releaseName); err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	if err := await(ctx, waitLimit, "nothing is left", func() error {
		names, err := n.objects(ctx)
		if err != nil {
			return err
		}
		if names = slices.DeleteFunc(names, func(name string) bool { return n.kept[name] }); len(names) > 0 {
			return fmt.Errorf("still there: %s", strings.Join(names, ", "))
		}
		return nil
	}); err != nil {
		return err
	}
	say("uninstalled in %s; only what was there before is left: %d objects", n.name, len(n.kept))
	return nil
}

// objects lists all objects of the namespace except events, which the API server deletes after an hour.
func (n *namespace) objects(ctx context.Context) (names []string, err error) {
	lists, err := discovery.ServerPreferredNamespacedResources(n.client.Discovery())
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(n.config)
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if r.Kind == "Event" || !slices.Contains(r.Verbs, "list") {
				continue
			}
			found, err := client.Resource(gv.WithResource(r.Name)).Namespace(n.name).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			for _, o := range found.Items {
				names = append(names, o.GetKind()+" "+o.GetName())
			}
		}
	}
	return names, nil
}
