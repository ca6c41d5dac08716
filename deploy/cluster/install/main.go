// Command install installs the Helm chart on a real API server with real controllers, upgrades it, rolls
// it back and uninstalls it. It prints every pod that the controllers made, each of which the API server
// has admitted at the Pod Security level "restricted". cluster.sh builds the servers and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/yaml"
)

const (
	releaseName = "sessiond"
	waitLimit   = 3 * time.Minute
)

var (
	bin      = flag.String("bin", "", "directory of the programs etcd, apiserver, controllers and sessiond")
	dir      = flag.String("dir", "", "directory for the data and the logs of this run")
	chartDir = flag.String("chart", "../chart", "directory of the chart")
	previous = flag.String("previous", "", "directory of the chart of the release before. Default: the same chart with another version")
	values   = flag.String("values", "../charttest/testdata/values", "directory of the sets of values")
	crds     = flag.String("crds", "", "comma-separated files of the custom resources that the values need")
)

func main() {
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))) // of Helm
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

var begin = time.Now()

// say prints a line with the time since the start.
func say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
}

func run(ctx context.Context) error {
	c, err := startCluster(ctx, *bin, *dir)
	defer c.stop()
	if err != nil {
		return fmt.Errorf("%w; the logs are in %s", err, *dir)
	}
	version, err := c.client.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	say("the API server %s and the controllers run", version)
	// The kubelet must end before the cluster.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k, err := startKubelet(ctx, c.client)
	if err != nil {
		return err
	}
	if err := c.createCustomResources(ctx, *crds); err != nil {
		return err
	}
	before, now, err := charts()
	if err != nil {
		return err
	}
	if err := lifecycle(ctx, c, before, now); err != nil {
		return err
	}
	for _, set := range []string{"gateway-api", "ingress", "single"} {
		if err := installOnly(ctx, c, now, set); err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
	}
	return k.summary()
}

// summary prints every pod. It returns an error if the kubelet had one.
func (k *kubelet) summary() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	say("the API server admitted these %d pods, all in namespaces that enforce the level restricted:", len(k.order))
	for _, name := range k.order {
		fmt.Printf("         %-60s %s\n", name, k.admitted[name])
	}
	for _, err := range k.errs {
		return fmt.Errorf("the pretended kubelet: %w", err)
	}
	return nil
}

// charts returns the chart of the release before and the present one.
func charts() (before, now *chart.Chart, err error) {
	if now, err = loader.Load(*chartDir); err != nil {
		return nil, nil, err
	}
	if *previous != "" {
		before, err = loader.Load(*previous)
		return before, now, err
	}
	if before, err = loader.Load(*chartDir); err != nil {
		return nil, nil, err
	}
	before.Metadata.Version, before.Metadata.AppVersion = "0.0.1", "0.0.1"
	return before, now, nil
}

// lifecycle installs the release before with the minimal values, upgrades it to the present one with
// those of production, rolls back, and uninstalls it.
func lifecycle(ctx context.Context, c *cluster, before, now *chart.Chart) error {
	n, err := c.newNamespace(ctx, "identity")
	if err != nil {
		return err
	}
	if err := n.refusesBadPod(ctx); err != nil {
		return err
	}
	if err := n.createWhatValuesName(ctx); err != nil {
		return err
	}
	minimal, err := readValues("minimal")
	if err != nil {
		return err
	}
	production, err := readValues("production")
	if err != nil {
		return err
	}

	if err := n.install(ctx, before, minimal); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := n.expectReplicas(ctx, 3, "0.0.1"); err != nil && *previous == "" {
		return err
	}
	u := action.NewUpgrade(n.helm)
	u.Namespace, u.Timeout, u.WaitStrategy = n.name, waitLimit, kube.StatusWatcherStrategy
	lowest := n.watchReplicas(ctx)
	if _, err := u.RunWithContext(ctx, releaseName, now, production); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	say("upgraded to %s with the values of production; the Deployment never wanted fewer than %d replicas", now.Metadata.Version, lowest())
	if n := lowest(); n < 3 {
		return fmt.Errorf("the upgrade left only %d replicas before the autoscaler came", n)
	}
	if err := n.expectReplicas(ctx, 4, "sha256:"); err != nil {
		return err
	}
	test := action.NewReleaseTesting(n.helm)
	test.Namespace, test.Timeout = n.name, waitLimit
	if _, shutdown, err := test.Run(releaseName); err != nil {
		return fmt.Errorf("test: %w", err)
	} else if shutdown != nil {
		if err := shutdown(); err != nil {
			return err
		}
	}
	say("helm test created its pod, which the pretended kubelet reported as succeeded")
	if err := n.rotatesKeys(ctx); err != nil {
		return fmt.Errorf("rotation: %w", err)
	}

	r := action.NewRollback(n.helm)
	r.Version, r.Timeout, r.WaitStrategy = 1, waitLimit, kube.StatusWatcherStrategy
	if err := r.Run(releaseName); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	if err := n.expectReplicas(ctx, 3, "0.0.1"); err != nil && *previous == "" {
		return err
	}
	say("rolled back to the first revision")
	return n.uninstall(ctx)
}

// installOnly installs the present chart with a set of values, and uninstalls it.
func installOnly(ctx context.Context, c *cluster, now *chart.Chart, set string) error {
	n, err := c.newNamespace(ctx, set)
	if err != nil {
		return err
	}
	if err := n.createWhatValuesName(ctx); err != nil {
		return err
	}
	v, err := readValues(set)
	if err != nil {
		return err
	}
	if err := n.install(ctx, now, v); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	return n.uninstall(ctx)
}

func readValues(set string) (v map[string]any, err error) {
	data, err := os.ReadFile(*values + "/" + set + ".yaml")
	if err != nil {
		return nil, err
	}
	return v, yaml.Unmarshal(data, &v)
}

// A namespace enforces the Pod Security level "restricted".
type namespace struct {
	*cluster
	name string
	helm *action.Configuration
	kept map[string]bool // objects that were there before the release
}

func (c *cluster) newNamespace(ctx context.Context, name string) (*namespace, error) {
	labels := map[string]string{}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = "restricted"
		labels["pod-security.kubernetes.io/"+mode+"-version"] = "latest"
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &c.kubeconfig, &name
	n := &namespace{cluster: c, name: name, helm: action.NewConfiguration()}
	return n, n.helm.Init(flags, name, "secret")
}

func (n *namespace) install(ctx context.Context, c *chart.Chart, values map[string]any) error {
	i := action.NewInstall(n.helm)
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy = releaseName, n.name, waitLimit, kube.StatusWatcherStrategy
	if _, err := i.RunWithContext(ctx, c, values); err != nil {
		return err
	}
	say("installed %s in the namespace %s, and its replicas are ready", c.Metadata.Version, n.name)
	return nil
}
