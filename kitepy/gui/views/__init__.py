"""The pages: they draw a state and say what the user wants. They know no client, no asyncio and keep no truth.

Object names, kept stable for tests and for driving the app from outside:

    main-window         whole window; drop-overlay while something is dragged over it
    sidebar             container-filter, new-button, app-menu-button, container-list, images-button, volumes-button,
                        networks-button, ports-button, registries-button, engine-status
    discover-page       discover-search, discover-registries; before a search: drop-target, choose-folder-button,
                        choose-dockerfile-button, image-card-run (one per image); of a search: search-status, offline-line,
                        search-again, exact-show, exact-run, local-run, hit-card, hit-tags, hit-run, search-trouble
    pulls               pull-bar, pull-detail, pull-show, pull-pause, pull-resume, pull-cancel (one each a pull)
    repository-page     repository-back, repository-name, tag-filter, tags-list, tags-more, tags-trouble, pull-preview,
                        preview-name, preview-fetch, preview-here, preview-platform, preview-change, preview-pull, preview-run
    pull-page           pull-back, pull-title, pull-state, pull-percent, pull-words, pull-total, pull-layers, pull-trouble,
                        pull-page-pause, pull-page-resume, pull-page-cancel, pull-page-run
    registries-page     registries-list, registry-filter, registry-add, registry-log-in, registry-log-out, registry-check,
                        registry-remove, registry-trouble, registry-notes
    review-sheet        review-image-name, review-dockerfile, review-context, review-run (Build and run), review-cancel
    build-page          build-title, build-state, build-elapsed, build-cancel, build-again, build-dismiss, build-steps,
                        build-output, build-error, build-error-line
    container-page      container-name, container-state, container-image, container-start, container-stop, container-restart,
                        container-open, container-more, container-tabs, preview-card, preview-status, preview-title,
                        preview-open, ports-table, port-address, recent-logs, log-view, log-search, log-follow, log-timestamps,
                        log-clear, log-copy, inspect-tree, inspect-search
    images-page         images-list, image-run, image-remove, image-filter
    volumes-page        volumes-list, volume-filter, volume-create, volume-restore, volume-prune, volume-back-up, volume-remove,
                        volume-open; of one volume: volume-back, volume-name, volume-detail-back-up, volume-detail-restore,
                        volume-detail-remove, volume-files, file-preview, file-note, file-save, volume-user
    jobs                job-progress, job-detail, job-cancel, job-dismiss (one each a copy)
    networks-page       networks-list, network-filter, network-create, network-open, network-remove; of one network: network-back,
                        network-name, network-connect, network-detail-remove, network-members, network-disconnect
    ports-page          ports-list, port-filter, port-wanted, port-protocol, port-answer, port-open, port-copy, port-show,
                        port-free
    failure-page        failure-reason, failure-hint, failure-copy-hint, failure-log, failure-retry
    confirm-sheet       confirm-yes, confirm-no;  rename-sheet  rename-name, rename-save;  choice-sheet  choice-0 …, choice-no
    new-volume, prune-volumes, restore-volume, new-network, connect-container, login, new-registry   sheets: NAME-yes, NAME-no,
                        NAME-problem; trouble cards: NAME-copy and a button a remedy (NAME-log-in, NAME-retry …)
    notices             messages at the lower edge
"""
