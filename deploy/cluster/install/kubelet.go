package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// A kubelet pretends to run pods: there are no nodes. Through the status API it reports that a pod of a
// job ended well, and that every other pod is ready. It remembers each pod that the API server admitted.
type kubelet struct {
	client *kubernetes.Clientset

	mu       sync.Mutex
	admitted map[string]string // by namespace and name, and in the order of their admission
	order    []string
	errs     []error
	pods     int
}

// startKubelet returns when the watch has begun.
func startKubelet(ctx context.Context, client *kubernetes.Clientset) (*kubelet, error) {
	k := &kubelet{client: client, admitted: map[string]string{}}
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Pods().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { k.run(ctx, o.(*corev1.Pod)) },
	}); err != nil {
		return nil, err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return nil, fmt.Errorf("cannot watch the pods: %w", ctx.Err())
	}
	return k, nil
}

func (k *kubelet) run(ctx context.Context, pod *corev1.Pod) {
	owner := "no controller"
	if o := metav1.GetControllerOf(pod); o != nil {
		owner = o.Kind
	}
	k.mu.Lock()
	name := pod.Namespace + "/" + pod.Name
	k.admitted[name] = fmt.Sprintf("made by %s, image %s", owner, pod.Spec.Containers[0].Image)
	k.order = append(k.order, name)
	k.pods++
	address := fmt.Sprintf("10.0.%d.%d", k.pods/250, k.pods%250+1)
	k.mu.Unlock()

	if err := k.report(ctx, pod.DeepCopy(), address); err != nil && ctx.Err() == nil {
		k.mu.Lock()
		k.errs = append(k.errs, fmt.Errorf("%s: %w", name, err))
		k.mu.Unlock()
	}
}

func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, address string) error {
	now := metav1.NewTime(time.Now())
	ends := pod.Spec.RestartPolicy == corev1.RestartPolicyNever
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &now
	pod.Status.PodIP, pod.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
	for _, c := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		status := corev1.ConditionTrue
		if ends && (c == corev1.ContainersReady || c == corev1.PodReady) {
			status = corev1.ConditionFalse
		}
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: c, Status: status, LastTransitionTime: now})
	}
	for _, c := range pod.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: !ends}
		if ends {
			s.State.Terminated = &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}
		} else {
			s.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, s)
	}
	if ends {
		pod.Status.Phase = corev1.PodSucceeded
	}
	// A controller may have changed the pod since. The merge in the API server does not mind.
	pod.ResourceVersion = ""
	_, err := k.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}
